"""``manage.py history PATH``."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from buffer.models import File
from ingest import rerun, transitions
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
HOSTILE = "no flat\n\u202e\x1b[2J postgres://a:hunter2@h"


def command(*options: str) -> str:
    out = StringIO()
    call_command("history", *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def file(ingester: Ingester, make_file: MakeFile) -> File:
    """A file that failed, and that somebody wants to be tried again."""
    file = make_file()
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED, worker="alpha:7")
    row = Ingestion.objects.get()
    step = Step(
        row.pk, file.pk, Status.UNTRIED, None, Status.FAILURE, 1,
        message=HOSTILE, duration=1.234, version="26.0", worker="alpha:8",
    )  # fmt: skip
    assert transitions.apply(ingester.pk, [step])
    rerun.rerun([row.pk], user="ann", note="flat\nadded")
    return file


def test_a_file(file: File) -> None:
    lines = command(file.path).splitlines()
    assert lines[0] == f"File {file.pk} in storage files: {file.path_below(file.storage.root)}"
    assert [line[22:] for line in lines[1:] if line.startswith("  2")] == [
        "stored",
        "gen3_file_events UNTRIED by alpha:7",
        "gen3_file_events FAILURE in 1.23 s by alpha:8 (26.0)",
        "gen3_file_events RERUN by ann",
    ]
    assert lines[-1] == "      note: flat added"


def test_hostile_messages(file: File) -> None:
    for text in (command(file.path), command(file.path, "--json")):
        assert "\u202e" not in text and "\x1b" not in text and "hunter2" not in text


@pytest.mark.parametrize("absolute", [True, False])
def test_json(file: File, absolute: bool) -> None:
    path = file.path_below(file.storage.root) if absolute else file.filename
    (found,) = json.loads(command(path, "--json"))
    assert (found["id"], found["left_out"]) == (file.pk, 0)
    whats = [one["what"] for one in found["happenings"]]
    assert whats == ["stored", "UNTRIED", "FAILURE", "RERUN"]
    assert found["happenings"][-1]["note"] == "flat\nadded"


def test_the_newest_of_many(file: File) -> None:
    text = command(file.path, "--limit", "1")
    assert "(2 older events are left out: --limit)" in text
    assert "RERUN" in text and "FAILURE" not in text
    assert "left out" not in command(file.path, "--limit", "3")


def test_every_file_of_a_name(file: File, make_file: MakeFile) -> None:
    make_file(relpath="elsewhere", filename=file.filename)
    assert command(file.filename).count("in storage files: ") == 2


def test_never_seen() -> None:
    assert command("never\x1bseen.fits") == (
        "never\\x1bseen.fits: no such file is tracked (manage.py explain says why)\n"
    )
    assert json.loads(command("never.fits", "--json")) == []


@pytest.mark.parametrize("options", [["/"], ["a\0b"], ["a", "--limit", "0"]])
def test_bad_usage(options: list[Any]) -> None:
    with pytest.raises(CommandError) as caught:
        command(*options)
    assert caught.value.returncode in (1, 2)
