"""Where an error of the file system happened."""

from __future__ import annotations

import errno

import pytest

from buffer.io_errors import AsideError, ReleaseError, StorageError, SyncError, errors_as
from buffer.placing import CannotPlace


def test_an_error_gets_its_place() -> None:
    with pytest.raises(StorageError) as caught, errors_as(StorageError):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOSPC, "No space left on device")
    assert type(caught.value.__cause__) is OSError


@pytest.mark.parametrize(
    "kind", [FileExistsError, StorageError, SyncError, AsideError, ReleaseError]
)
@pytest.mark.parametrize("outer", [StorageError, ReleaseError])
def test_what_says_more_already_is_left(kind: type[OSError], outer: type[OSError]) -> None:
    with pytest.raises(kind) as caught, errors_as(outer):
        raise kind(errno.EEXIST, "File exists")
    assert type(caught.value) is kind


def test_what_the_caller_wants_himself_is_left() -> None:
    error = CannotPlace(errno.EXDEV, "Invalid cross-device link")
    with pytest.raises(CannotPlace), errors_as(StorageError, CannotPlace):
        raise error
    with pytest.raises(StorageError), errors_as(StorageError):
        raise error


def test_what_is_no_error_of_the_file_system_is_left() -> None:
    with pytest.raises(ValueError), errors_as(StorageError):
        raise ValueError
