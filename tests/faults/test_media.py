"""Storage media that fill up, fail and go away under a running finder; each heals by itself."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.media import Mounts, Witness, injected, mounts, product, running, sync, witness
from tests.system.product import Product
from tests.tally import Tally

__all__ = ["mounts", "product", "witness"]

#: A finder that is blocked looks again after a second.
BLOCKED_S = 1.0


def test_full(product: Product, mounts: Mounts, witness: Witness, tally: Tally) -> None:
    """What is too large waits, what is small enough does not; room heals it."""
    mounts.tmpfs(product.storage, "size=256k")
    finder, heals = running(product, witness)
    for number in range(3):
        witness.land(f"night/large{number}", bytes(400_000))
    product.wait(heals.message, "it says so")
    assert "takes no files: No space left on device" in heals.message()
    witness.land("night/small")
    product.wait(lambda: product.stored() == 2, "a small one finds room")
    assert set(heals.refusals().values()) == {"STORAGE_FULL"}
    mounts.remount(product.storage, "size=4m")
    took = heals.wait(witness.sent)
    assert finder.err.count("takes no files") == 1
    assert finder.err.count("STORAGE_FULL night/large0") == 1
    tally("full disk", 3, took)


@pytest.mark.full
def test_no_inodes_left(product: Product, mounts: Mounts, witness: Witness, tally: Tally) -> None:
    mounts.tmpfs(product.storage, "size=4m,nr_inodes=10")
    finder, heals = running(product, witness)
    for number in range(12):
        witness.land(f"night/{number}")
    product.wait(heals.message, "it says so")
    assert "takes no files: No space left on device" in heals.message()
    mounts.remount(product.storage, "nr_inodes=1000")
    took = heals.wait(witness.sent)
    assert finder.err.count("takes no files") == 1
    tally("no inodes left", 12, took)


@pytest.mark.full
def test_read_only(
    product: Product, mounts: Mounts, witness: Witness, tally: Tally, tmp_path: Path
) -> None:
    mounts.ext4(product.storage, tmp_path / "image")
    finder, heals = running(product, witness)
    mounts.remount(product.storage, "ro")
    witness.land("night/a")
    witness.land("morning/b")
    product.wait(heals.message, "it says so")
    assert "takes no files: Read-only file system" in heals.message()
    assert heals.refusals() == {}, "it is no arrival's fault"
    mounts.remount(product.storage, "rw")
    took = heals.wait(witness.sent)
    assert finder.err.count("Read-only") == 1
    tally("storage remounted read-only", 1, took)


def test_storage_unmounted(
    product: Product, mounts: Mounts, witness: Witness, tally: Tally, tmp_path: Path
) -> None:
    """Nothing is written to the mount point, and all goes on when it is mounted again."""
    mounts.ext4(product.storage, tmp_path / "image")
    finder, heals = running(product, witness)
    with witness.looking:
        mounts.unmount(product.storage)
    witness.land("night/a")
    witness.land("morning/b")
    product.wait(heals.message, "it says so")
    assert "is its file system mounted?" in heals.message()
    time.sleep(2 * BLOCKED_S)
    assert list(product.storage.iterdir()) == []
    assert heals.refusals() == {}
    mounts.ext4(product.storage, tmp_path / "image")
    took = heals.wait(witness.sent)
    assert finder.err.count("is its file system mounted") == 1
    assert "files can be taken in again" in finder.err
    tally("storage unmounted under a finder", 1, took)


@pytest.mark.full
@pytest.mark.parametrize("what", ["storage", "buffer"])
def test_device_lost(
    product: Product,
    mounts: Mounts,
    witness: Witness,
    tally: Tally,
    tmp_path: Path,
    what: str,
) -> None:
    """Every call fails, as with a disk that was pulled out, until it is mounted again."""
    place = product.storage if what == "storage" else product.buffer
    mounts.ext4(place, tmp_path / "image")
    _, heals = running(product, witness, fsync=True)
    kept = witness.land("night/a")
    if what == "storage":
        product.wait(lambda: not kept.exists(), "it is stored")
    else:
        sync(place)
    mounts.lose(place)
    if what == "storage":
        witness.land("night/b")
    product.wait(lambda: heals.message() or heals.refusals(), "it says so")
    # The finder's lock keeps the old buffer open; what is plugged in again is another device.
    with witness.looking:
        mounts.unmount(place, *(["--lazy"] if what == "buffer" else []))
    again = Path(shutil.copy(tmp_path / "image", tmp_path / "image-2"))
    mounts.ext4(place, again)
    took = heals.wait(witness.sent)
    tally(f"device of the {what} lost", 1, took)


#: The calls that fail, where, and what is then said of the arrival: a reason, or the message of the
#: finder. In a path, B and S are the buffer and the storage.
CALLS: dict[str, tuple[dict[str, str], str, str]] = {
    "link": ({"linkat": "EIO"}, "S/night", "EIO"),
    "rename": ({"linkat": "EPERM", "renameat2": "EIO"}, "S/night", "EIO"),
    "read": ({"pread64": "EIO"}, "B/night/a", "EIO"),
    "open": ({"openat": "EIO"}, "B/night", "EIO"),
    "look": ({"newfstatat": "EIO"}, "B/night", "UNREADABLE"),
    "list": ({"getdents64": "EIO"}, "B/night", "UNREADABLE"),
    "list all": ({"getdents64": "EIO"}, "B", "the buffer or the storage fails"),
    "fsync": ({"fsync": "EIO"}, "B/night/a", "EIO"),
    "fsync of the directory": ({"fsync": "EIO"}, "S/night", "EIO"),
    "fsync without room": ({"fsync": "ENOSPC"}, "B/night/a", "EIO"),
    "syncfs": ({"syncfs": "EIO"}, "", "EIO"),
    "unlink": ({"unlinkat": "EIO"}, "B/night", "UNREADABLE"),
    "mkdir": ({"mkdirat": "EIO"}, "S/night", "EIO"),
    "copy": ({"openat": "EIO"}, "S/.incoming", "EIO"),
    "copy over quota": ({"openat": "EDQUOT"}, "S/.incoming", "STORAGE_FULL"),
    "link over quota": ({"linkat": "EDQUOT"}, "S/night", "STORAGE_FULL"),
    "mkdir over quota": ({"mkdirat": "EDQUOT"}, "S/night", "STORAGE_FULL"),
}
QUICK = {"list all"}


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.full) for case in CALLS],
)
def test_call_fails(
    product: Product, mounts: Mounts, witness: Witness, tally: Tally, case: str
) -> None:
    """Nothing is half done; and when the call succeeds again, all heals by itself."""
    errors, place, said = CALLS[case]
    if case.startswith("copy"):
        mounts.tmpfs(product.storage, "size=4m")
    finder, heals = running(product, witness, fsync="sync" in case)
    roots = {"B": product.buffer, "S": product.storage}
    paths = [roots[place[0]] / place[2:]] if place else []
    with injected(product, finder, errors, paths) as injection:
        name = "night/new/a" if case.startswith("mkdir") else "night/a"
        if case == "syncfs":
            witness.land_together("together", 12)
            product.wait(lambda: len(heals.refusals()) == 12, "all are refused")
        else:
            witness.land(name)
        product.wait(
            lambda: said in heals.refusals().values() or said in heals.message(), "it says so"
        )
        stored = {"night/first"} if "unlink" not in case else set(witness.sent)
        assert product.files_in(product.storage).keys() == stored
        for _ in range(4):
            assert product.files_in(product.storage).keys() == stored
            time.sleep(0.2)
        count = injection.count()
    assert count, "nothing was injected"
    took = heals.wait(witness.sent)
    if said.isupper():
        assert finder.err.count(f"{said} ") >= 1
    tally(f"{case} fails ({next(reversed(errors.values()))})", count, took)


@pytest.mark.full
def test_permission_removed(
    product: Product, mounts: Mounts, witness: Witness, tally: Tally
) -> None:
    """Not even root may write to a directory that is immutable."""
    finder, heals = running(product, witness)
    night = product.storage / "night"
    subprocess.run(["chattr", "+i", str(night)], check=True)
    try:
        witness.land("night/a")
        witness.land("b")
        product.wait(lambda: heals.refusals() and product.stored() == 2, "others go on")
        assert heals.refusals() == {"night/a": "EIO"}
        assert "may not be used by this user" in finder.err
    finally:
        subprocess.run(["chattr", "-i", str(night)], check=True)
    took = heals.wait(witness.sent)
    tally("permission removed from a storage directory", 1, took)
