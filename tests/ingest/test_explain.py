"""`manage.py explain PATH`: why a file is where it is."""

from __future__ import annotations

import io
import json
import os
import socket
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from buffer import operator_pauses
from buffer.copies import kept_name
from buffer.models import (
    Component,
    ComponentKind,
    File,
    FindingKind,
    Refusal,
    RefusalReason,
    Storage,
    Suspicion,
)
from buffer.names import escape
from buffer.operator_pauses import Pausable
from ingest import transitions
from ingest.explain import explain
from ingest.models import Breaker, Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


@pytest.fixture
def finder(storage: Storage, tmp_path: Path) -> Component:
    """A finder that is at work, and its buffer."""
    source = tmp_path / "buffer"
    source.mkdir()
    section = {
        "source": str(source),
        "storage": storage.root,
        "actions": {"standard": "Move"},
        "search": {"method": "scan", "exclude_list": [r"\.log$"], "delay": 0},
    }
    return Component.objects.create(
        kind=ComponentKind.FINDER,
        subject=str(source),
        host=socket.gethostname(),
        pid=1,
        settings={"finder": section, "storage": storage.pk, "once": False},
    )


def arrive(finder: Component, name: str, content: bytes = b"data") -> Path:
    path = Path(finder.subject) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def conclusion(path: str | Path) -> str:
    (buffer,) = explain(str(path)).buffers
    return buffer.conclusion


def test_a_path_that_nobody_knows() -> None:
    found = explain("/nowhere/x.fits")
    assert found.verdict == "Never seen: no finder and no storage area is known yet."


def test_a_path_elsewhere(finder: Component) -> None:
    assert "not below a known buffer" in explain("/nowhere/x.fits").verdict


def test_a_path_of_the_buffer_that_is_not_there(finder: Component) -> None:
    found = explain(f"{finder.subject}/x.fits")
    assert found.verdict == "Never seen, and not in a known buffer."
    assert "nothing of this name is there" in found.buffers[0].conclusion
    # Even so, its name tells that it would not be taken in.
    assert "exclude_list" in conclusion(f"{finder.subject}/x.log")


def test_an_arrival_that_is_due(finder: Component) -> None:
    path = arrive(finder, "2026-11-23/a.fits")
    for spelled in (str(path), "2026-11-23/a.fits", "./2026-11-23//a.fits"):
        found = explain(spelled)
        assert "it is due" in found.verdict
        assert found.verdict.startswith(f"In the buffer {finder.subject}, not taken in")
        assert "is running" in found.buffers[0].finder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".a.fits.Ab12Cd", "unfinished files"),
        ("a.fits.part", "unfinished files"),
        ("a.log", "exclude_list: \\x5c.log$"),
        ("a\nb.fits", "name is refused: the name has the control character"),
        (".endpoint-storage", "reserved"),
    ],
)
def test_names_that_are_not_taken_in(finder: Component, name: str, words: str) -> None:
    assert words in conclusion(arrive(finder, name))


def test_names_that_are_not_utf8(finder: Component) -> None:
    path = os.fsdecode(os.fsencode(finder.subject) + b"/a\xff.fits")
    Path(path).write_bytes(b"x")
    assert "not UTF-8" in conclusion(path)
    assert "not UTF-8" in conclusion(f"{finder.subject}/a\\udcff.fits")
    json.dumps(explain(path).verdict).encode("utf-8")


def test_other_kinds_of_things(finder: Component) -> None:
    source = Path(finder.subject)
    (source / "directory").mkdir()
    assert "is a directory" in conclusion(source / "directory")
    (source / "link").symlink_to("/etc/passwd")
    assert "not a regular file" in conclusion(source / "link")
    os.mkfifo(source / "fifo")
    assert "not a regular file" in conclusion(source / "fifo")


def test_an_arrival_that_is_not_quiet_yet(finder: Component) -> None:
    path = arrive(finder, "a.fits")
    finder.settings["finder"]["search"]["delay"] = 600
    finder.save()
    assert "taken in when it was quiet for 600 s" in conclusion(path)


def test_a_finder_that_cannot_work(finder: Component) -> None:
    path = arrive(finder, "a.fits")
    Component.objects.update(message="no room left")
    assert "cannot take anything in now: no room left" in conclusion(path)
    Component.objects.update(message="", seen_on=timezone.now() - timedelta(minutes=5))
    found = explain(str(path))
    assert "no finder is running" in found.verdict
    assert "was last heard of" in found.buffers[0].finder
    Component.objects.update(stopped_on=timezone.now())
    assert "was stopped" in explain(str(path)).buffers[0].finder


def test_a_finder_of_another_host(finder: Component) -> None:
    settings = finder.settings
    settings["finder"]["source"] = "/not/here"
    Component.objects.update(host="beta", settings=settings)
    assert conclusion("/not/here/a.fits") == "this host does not see the buffer; ask on beta"


def test_settings_of_another_version(finder: Component) -> None:
    Component.objects.update(settings={"finder": {"what": 1}})
    assert explain(f"{finder.subject}/a.fits").buffers == []


def test_rsync_logs(finder: Component, storage: Storage) -> None:
    settings = finder.settings
    settings["finder"] |= {"actions": {}, "search": {"method": "parse_rsync_logs"}}
    Component.objects.update(settings=settings)
    path = Path(storage.root) / "a.fits"
    path.write_bytes(b"x")
    assert "when a log of rsync names it" in conclusion(path)


def test_a_refusal(finder: Component, storage: Storage) -> None:
    path = arrive(finder, "sub/a\u202eb.fits")
    refusal = Refusal.objects.create(
        storage=storage,
        source=finder.subject,
        path=escape("sub/a\u202eb.fits"),
        key="k",
        reason=RefusalReason.CONFLICT,
        detail="another file is stored",
    )
    for spelled in (str(path), escape(path), "sub/a\\u202eb.fits"):
        found = explain(spelled)
        assert found.verdict == "Refused: CONFLICT, another file is stored."
        assert found.buffers[0].conclusion == "it is refused; see the refusal"
    path.unlink()
    Refusal.objects.filter(pk=refusal.pk).update(
        resolved_on=timezone.now(), resolved_how="gone", resolved_by="finder"
    )
    found = explain(str(path))
    assert found.verdict == "Not tracked. Refused before: CONFLICT; gone by finder."
    assert not found.refusals[0].open


def next_of(ingester: Ingester, file: File) -> str:
    (facts,) = explain(file.path).files
    (row,) = [row for row in facts.ingesters if row.ingester == ingester.name]
    return row.next


def test_a_stored_file(
    finder: Component, ingester: Ingester, make_file: MakeFile, storage: Storage
) -> None:
    file = make_file(content=b"data")
    in_buffer = f"{finder.subject}/{file.path}"
    for spelled in (
        file.path,
        file.filename,
        file.path_below(storage.root),
        # Where it came from leads to where it is.
        in_buffer,
    ):
        found = explain(spelled)
        assert found.verdict.startswith(f"Tracked as file {file.pk} (stored). gen3_file_events:")
    (facts,) = found.files
    assert (facts.on_disk, facts.stage) == ("there", "stored")
    Path(file.path_below(storage.root)).write_bytes(b"longer")
    assert explain(file.path).files[0].on_disk == "there, but with 6 bytes"
    Path(file.path_below(storage.root)).unlink()
    assert "MISSING" in explain(file.path).verdict
    storage.root = "/not/mounted/here"
    storage.save()
    assert "does not see" in explain(file.filename).files[0].on_disk
    arrive(finder, file.path)
    assert "compares them" in explain(in_buffer).buffers[0].conclusion


def test_a_file_on_its_way(ingester: Ingester, make_file: MakeFile) -> None:
    file = make_file(stored_on=None)
    assert "begun and is not complete" in explain(file.path).verdict
    assert "when it is stored" in next_of(ingester, file)
    file = make_file(source="/data/buffer")
    assert "yet to be released" in explain(file.path).verdict


def test_what_is_next_at_an_ingester(ingester: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    assert "no process of gen3_file_events is running" in next_of(ingester, file)
    Component.objects.create(kind=ComponentKind.INGESTER, subject=ingester.name, host="h", pid=1)
    assert next_of(ingester, file) == "the ingester opens it with its next cycle"
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get()
    assert next_of(ingester, file) == "it waits for a worker"
    Component.objects.update(message="no manage.py runworkers is running")
    assert next_of(ingester, file) == (
        "it waits for a worker, but no manage.py runworkers is running"
    )
    Component.objects.update(message="")

    again = f"manage.py rerun --ingester gen3_file_events --file {file.pk}"
    was = Status.UNTRIED
    for status, words in (
        (Status.SUCCESS, f"it is ingested (to ingest it again: {again})"),
        (Status.FAILURE, f"mend the cause, then {again}"),
        (Status.UNKNOWN, f"look whether it got in, and if not: {again}"),
        (Status.IGNORED, "not wanted by include_list and exclude_list"),
        (Status.INVALID, "missing or empty"),
        (Status.BACKFILL, "was here before this system"),
        (Status.RERUN, "it waits for a worker"),
    ):
        step = Step(row.pk, file.pk, was, None, status, 1, message="m\x1b[2J")
        assert transitions.apply(ingester.pk, [step])
        was = status
        assert words in next_of(ingester, file)
    assert explain(file.path).files[0].ingesters[0].message == "m\\x1b[2J"

    ingester.settings = {"file_status": ["FAILURE"]}
    ingester.save()
    assert "but this ingester's file_status is FAILURE" in next_of(ingester, file)
    due = timezone.now() + timedelta(hours=1)
    retry = Step(row.pk, file.pk, was, None, Status.FAILURE, 1, next_attempt_on=due)
    transitions.apply(ingester.pk, [retry])
    assert "tried again by itself, due" in next_of(ingester, file)
    Ingestion.objects.update(next_attempt_on=None)
    assert "the next start of the ingester takes it" in next_of(ingester, file)
    Component.objects.update(stopped_on=timezone.now())
    assert "start it with manage.py runingester" in next_of(ingester, file)
    Ingestion.objects.update(next_attempt_on=due, status=Status.UNKNOWN)
    assert "asked whether it got in" in next_of(ingester, file)
    Ingestion.objects.update(claim=uuid.uuid4(), lease_until=due)
    assert "about to try it; given up unless renewed by" in next_of(ingester, file)
    Ingestion.objects.update(status=Status.PENDING)
    assert "an attempt is under way" in next_of(ingester, file)


def test_the_copy_that_is_kept_of_an_arrival(finder: Component, storage: Storage) -> None:
    name = kept_name("ab" * 32)
    Refusal.objects.create(
        storage=storage, source=finder.subject, path="x.fits", key="k", checksum="ab" * 32,
        reason=RefusalReason.CONFLICT, detail="gone", resolved_on=timezone.now(),
    )  # fmt: skip
    assert "is kept" not in run("x.fits")
    copy = Path(storage.root, ".incoming", name)
    copy.parent.mkdir()
    copy.touch()
    assert f"  a copy of it is kept: {copy}\n" in run("x.fits")


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("explain", *args, stdout=out)
    return out.getvalue()


def test_the_command(
    finder: Component, ingester: Ingester, make_file: MakeFile, storage: Storage
) -> None:
    file = make_file(content=b"data")
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get()
    failed = Step(
        row.pk, file.pk, Status.UNTRIED, None, Status.FAILURE, 1, message="no flat\nat all"
    )
    transitions.apply(ingester.pk, [failed])
    Refusal.objects.create(
        storage=storage, source=finder.subject, path=file.path, key="k",
        reason=RefusalReason.CONFLICT, detail="other content", file=file,
    )  # fmt: skip
    make_file(filename="fresh.fits")
    for cleared in (timezone.now(), None):
        Suspicion.objects.create(
            file=file, kind=FindingKind.CHANGED, detail="one bit", cleared_on=cleared,
            cleared_how="it was read" if cleared else "",
        )  # fmt: skip
    text = run(file.path)
    for words in (
        f"Tracked as file {file.pk} (stored). gen3_file_events: FAILURE.",
        "An arrival of this name is refused: CONFLICT.",
        "An audit found it CHANGED: one bit.",
        "audit: CHANGED, one bit (",
        "cleared: it was read)",
        "    to do: compare ",
        "gen3_file_events: FAILURE since",
        "      no flat\n      at all\n",
        f"next: nothing by itself: mend the cause, then manage.py rerun --ingester "
        f"gen3_file_events --file {file.pk}",
        "Refusal CONFLICT (standing)",
        f"collides with file {file.pk}",
        "4 bytes, blake3:",
    ):
        assert words in text, words
    found = json.loads(run(file.path, "--json"))
    assert found["files"][0]["ingesters"][0]["status"] == "FAILURE"
    assert found["refusals"][0]["open"] is True
    assert [row["standing"] for row in found["files"][0]["suspicions"]] == [True, False]
    assert "not opened yet" in run("fresh.fits")


def test_a_storage_that_nobody_reads(make_file: MakeFile) -> None:
    assert "no ingester reads this storage yet" in run(make_file().path)


def test_bad_usage() -> None:
    for path in ("", "/", "a\0b"):
        with pytest.raises(CommandError) as caught:
            run(path)
        assert caught.value.returncode == 2


def test_a_file_that_waits_for_the_target(ingester: Ingester, make_file: MakeFile) -> None:
    new, again = make_file(content=b"1"), make_file(content=b"2")
    transitions.create(ingester.pk, [new.pk, again.pk], Status.UNTRIED)
    now = timezone.now()
    Ingestion.objects.filter(file=again).update(status=Status.FAILURE, next_attempt_on=now)
    Breaker.objects.create(
        ingester=ingester, message="no route to host", opened_on=now, probe_on=now
    )
    for file in (new, again):
        (found,) = explain(file.path).files
        (one,) = found.ingesters
        assert "but the ingester is paused since" in one.next
        assert "no route to host; the target is probed with one file at" in one.next


def test_what_ingesters_would_do_with_a_path_that_was_never_seen(
    finder: Component, ingester: Ingester
) -> None:
    lists = {"include_list": [r"\.fits$"], "exclude_list": ["^bias/"]}
    Ingester.objects.update(settings=lists)
    Ingester.objects.create(name="other", storage=ingester.storage)

    def decisions(path: str) -> list[str]:
        found = explain(path)
        assert found.verdict.startswith("Never seen")
        return [row.decision for row in found.expectations]

    assert decisions(f"{finder.subject}/a.fits") == ["it would be tried"] * 2
    assert decisions("bias/a.fits") == [
        "it would be IGNORED: ingester.exclude_list has '^bias/'",
        "it would be tried",
    ]
    assert decisions(f"{ingester.storage.root}/a.txt")[0] == (
        "it would be IGNORED: no pattern of ingester.include_list matches"
    )
    assert decisions("/nowhere/a.fits") == []
    out = io.StringIO()
    call_command("explain", "bias/a.fits", stdout=out)
    assert "If such a file were stored\n  gen3_file_events: it would be IGNORED" in out.getvalue()


def test_a_file_that_is_tracked_needs_no_guess(ingester: Ingester, make_file: MakeFile) -> None:
    assert explain(make_file().path).expectations == []


def test_a_finder_that_a_person_has_paused(finder: Component) -> None:
    what = Pausable.of(finder)
    assert what is not None
    operator_pauses.pause(what, user="ann", note="new disk")
    text = conclusion(arrive(finder, "a.fits"))
    assert text.startswith("the finder is paused by ann since")
    assert text.endswith(f"new disk; manage.py resume --finder {finder.subject} lets it go on")


def test_a_checksum_names_the_files_that_have_it(ingester: Ingester, make_file: MakeFile) -> None:
    digest = "0123456789abcdef" * 4
    here, copy, other = make_file(checksum=digest), make_file(checksum=digest), make_file()
    for spelled in (digest, digest.upper()):
        assert {file.id for file in explain(spelled).files} == {here.pk, copy.pk}
    assert [file.id for file in explain(other.checksum).files] == [other.pk]
    assert explain("f" * 64).verdict.startswith("Never seen")
