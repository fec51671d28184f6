"""RERUN for many files."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from buffer.models import File, Storage
from ingest import rerun as module
from ingest import transitions
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.rerun import Result, rerun, rerun_files
from ingest.selection import Selection
from ingest.statuses import Status

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def known(ingester: Ingester, file: File, status: Status, **fields: Any) -> Ingestion:
    """A file that has a status at an ingester, in history too."""
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get(ingester=ingester, file=file)
    if status != Status.UNTRIED:
        values: dict[str, Any] = {"attempts": 1, **fields}
        step = transitions.Step(row.pk, file.pk, Status.UNTRIED, None, status, **values)
        assert transitions.apply(ingester.pk, [step])
        row.refresh_from_db()
    return row


def hold(row: Ingestion) -> None:
    Ingestion.objects.filter(pk=row.pk).update(
        claim=uuid.uuid4(), lease_until=timezone.now() + timedelta(minutes=1)
    )


def in_step() -> bool:
    """The status of every row is that of its newest event."""
    for row in Ingestion.objects.all():
        newest = FileEvent.objects.filter(file=row.file_id, ingester=row.ingester_id).latest("id")
        if (row.status, row.last_event_id) != (newest.status, newest.pk):
            return False
    return True


def test_failed_files_are_tried_again(ingester: Ingester, make_file: MakeFile) -> None:
    due = timezone.now() + timedelta(hours=1)
    rows = [
        known(ingester, make_file(), Status.FAILURE, cause="c", attempts=5, next_attempt_on=due)
        for _ in range(3)
    ]
    assert rerun(Ingestion.objects.all(), user="anna", note="new flats") == Result(asked=3)
    for row in rows:
        row.refresh_from_db()
        assert (row.status, row.attempts, row.cause) == (Status.RERUN, 0, "")
        assert row.next_attempt_on is None
        assert (row.last_event.user, row.last_event.note) == ("anna", "new flats")
    assert in_step()


def test_held_files_are_refused_and_counted(ingester: Ingester, make_file: MakeFile) -> None:
    rows = [known(ingester, make_file(), Status.FAILURE) for _ in range(3)]
    hold(rows[1])
    assert rerun([row.pk for row in rows], user="anna") == Result(asked=2, claimed=1)
    rows[1].refresh_from_db()
    assert rows[1].status == Status.FAILURE
    assert in_step()


def test_a_second_request_writes_nothing(ingester: Ingester, make_file: MakeFile) -> None:
    row = known(ingester, make_file(), Status.SUCCESS)
    assert rerun([row.pk], user="anna") == Result(asked=1)
    events = FileEvent.objects.count()
    assert rerun([row.pk], user="ben") == Result(already=1)
    assert FileEvent.objects.count() == events


def test_more_than_a_batch(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 4)
    for _ in range(11):
        known(ingester, make_file(), Status.FAILURE)
    # The condition stops being true of what was done; nothing is left out for that.
    failed = Ingestion.objects.filter(status=Status.FAILURE)
    assert rerun(failed, user="anna") == Result(asked=11)
    assert in_step()


def test_several_ingesters_at_once(ingester: Ingester, make_file: MakeFile) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    file = make_file()
    known(ingester, file, Status.FAILURE)
    known(other, file, Status.SUCCESS)
    assert rerun(Ingestion.objects.all(), user="anna") == Result(asked=2)
    assert in_step()


def test_an_outcome_that_comes_in_between(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row changes after it was looked at: it is looked at again."""
    row = known(ingester, make_file(), Status.UNTRIED)
    apply, calls = transitions.apply, []

    def late(ingester_id: int, steps: Any) -> Any:
        if not calls:
            calls.append(1)
            failed = transitions.Step(row.pk, row.file_id, Status.UNTRIED, None, Status.FAILURE, 1)
            assert apply(ingester_id, [failed])
        return apply(ingester_id, steps)

    monkeypatch.setattr(transitions, "apply", late)
    assert rerun([row.pk], user="anna") == Result(asked=1)
    assert in_step()


def test_a_row_that_never_stands_still_counts_as_held(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = known(ingester, make_file(), Status.UNTRIED)
    monkeypatch.setattr(transitions, "apply", lambda *_: [])
    assert rerun([row.pk], user="anna") == Result(claimed=1)


def test_files_that_were_never_opened(ingester: Ingester, make_file: MakeFile) -> None:
    tried, fresh = make_file(), make_file()
    known(ingester, tried, Status.SUCCESS)
    assert rerun_files([tried.pk, fresh.pk], ingester, user="anna") == Result(asked=2)
    events = FileEvent.objects.filter(file=fresh).order_by("id")
    assert [e.status for e in events] == [Status.UNTRIED, Status.RERUN]
    assert in_step()


def test_files_that_cannot_be_tried_here(
    ingester: Ingester, make_file: MakeFile, tmp_path: Path
) -> None:
    elsewhere = Storage.objects.create(name="elsewhere", root=str(tmp_path))
    foreign, coming = make_file(storage=elsewhere), make_file(stored_on=None)
    assert rerun_files([foreign.pk, coming.pk, 10**9], ingester, user="a") == Result(unfit=3)
    assert not Ingestion.objects.exists()


def test_a_selection(ingester: Ingester, make_file: MakeFile) -> None:
    first = known(ingester, make_file(filename="a.fits"), Status.FAILURE, cause="No Such flat")
    second = known(
        ingester,
        make_file(relpath="2026-11-23/sub", filename="b.fits"),
        Status.UNKNOWN,
        message="worker lost",
    )
    third = known(ingester, make_file(relpath="", filename="c.fits"), Status.SUCCESS)
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    known(other, first.file, Status.FAILURE)

    def chosen(**fields: Any) -> set[Ingestion]:
        return set(Selection(ingester, **fields).ingestions())

    assert chosen() == {first, second, third}
    assert Selection(ingester).is_everything()
    assert chosen(statuses=[Status.FAILURE, Status.UNKNOWN]) == {first, second}
    assert chosen(path="2026-11-23/a.fits") == {first}
    assert chosen(path="2026-11-23") == {first, second}
    assert chosen(path="2026-11-2") == set()
    assert chosen(path="2026-11-23/*.fits") == {first}
    assert chosen(path="**/*.fits") == {first, second, third}
    assert chosen(path="c.fits") == {third}
    assert chosen(path="*.FITS") == set()
    assert chosen(error="no such") == {first}
    assert chosen(error="LOST") == {second}
    assert chosen(file_ids=[third.file_id]) == {third}
    assert chosen(ingestion_ids=[second.pk]) == {second}
    assert chosen(event_ids=[first.last_event_id, third.last_event_id]) == {first, third}
    now = timezone.now()
    assert chosen(since=now + timedelta(minutes=1)) == set()
    assert chosen(since=now - timedelta(minutes=1), until=now) == {first, second, third}
    assert not Selection(ingester, file_ids=[]).is_everything()


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("rerun", *args, stdout=out)
    return out.getvalue()


def usage_error(*args: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*args)
    assert caught.value.returncode == 2
    assert not FileEvent.objects.filter(status=Status.RERUN).exists()
    return str(caught.value)


def test_the_command(ingester: Ingester, make_file: MakeFile) -> None:
    failed = known(ingester, make_file(), Status.FAILURE)
    known(ingester, make_file(), Status.SUCCESS)
    name = f"--ingester={ingester.name}"
    assert run(name, "--status=failure", "--dry-run") == (
        "1 files selected; nothing was changed (--dry-run)\n"
    )
    assert not FileEvent.objects.filter(status=Status.RERUN).exists()
    out = run(name, "--status=FAILURE", "--note=new flats", "--user=anna")
    assert out == f"{ingester.name}: 1 file will be tried again\n"
    failed.refresh_from_db()
    assert (failed.last_event.user, failed.last_event.note) == ("anna", "new flats")
    assert json.loads(run(name, "--all", "--json")) == {
        "asked": 1,
        "claimed": 0,
        "already": 1,
        "unfit": 0,
    }
    # The login name stands in for a missing --user.
    assert FileEvent.objects.latest("id").user != ""


def test_the_command_takes_files_by_id(ingester: Ingester, make_file: MakeFile) -> None:
    fresh, failed = make_file(), make_file()
    hold(known(ingester, failed, Status.FAILURE))
    name = f"--ingester={ingester.name}"
    both = f"--file={fresh.pk},{failed.pk}"
    assert json.loads(run(name, both, "--dry-run", "--json"))["selected"] == 2
    out = run(name, both)
    assert "1 file will be tried again; 1 file refused because a worker holds them" in out
    # With another filter, only those that it fits.
    assert "0 files" in run(name, f"--file={fresh.pk}", "--status=SUCCESS")


def test_the_command_takes_absolute_paths_and_times(
    ingester: Ingester, make_file: MakeFile
) -> None:
    file = make_file()
    known(ingester, file, Status.FAILURE)
    name = f"--ingester={ingester.name}"
    out = run(name, "--path", file.path_below(ingester.storage.root), "--until=2020-01-01")
    assert "0 files" in out
    out = run(
        name,
        "--path",
        f"{ingester.storage.root}/2026-11-23/",
        "--since=2020-01-01T00:00:00Z",
        "--until=2099-01-01T00:00:00+02:00",
    )
    assert "1 file will" in out


def test_bad_usage_is_named(ingester: Ingester, make_file: MakeFile) -> None:
    name = f"--ingester={ingester.name}"
    assert "--ingester is required (known: gen3_file_events)" in usage_error("--all")
    assert "no 'nobody' (known: gen3_file_events)" in usage_error("--ingester=nobody", "--all")
    assert "which files?" in usage_error(name)
    assert "--all cannot be combined" in usage_error(name, "--all", "--status=FAILURE")
    assert "--status: there is no 'BROKEN'" in usage_error(name, "--status=BROKEN")
    assert "--since: expected a time" in usage_error(name, "--since=yesterday")
    assert "--until: expected a time" in usage_error(name, "--until=2026-02-31")
    assert "--since is later" in usage_error(name, "--since=2026-01-02", "--until=2026-01-01")
    assert "--path: /elsewhere is not in" in usage_error(name, "--path=/elsewhere")
    assert "id number of a file, got 'x'" in usage_error(name, "--file=x")
    assert "no file 999999 is stored" in usage_error(name, "--file=999999")
    coming = make_file(stored_on=None)
    assert f"no file {coming.pk} is stored" in usage_error(name, f"--file={coming.pk}")


def test_without_any_ingester(db: None) -> None:
    assert "none: start one with runingester" in usage_error("--ingester=x", "--all")


def test_progress_is_told(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    rows = [known(ingester, make_file(), Status.FAILURE) for _ in range(5)]
    hold(rows[0])
    told: list[tuple[int, int]] = []
    rerun([row.pk for row in rows], user="ann", tell=lambda *numbers: told.append(numbers))
    assert told == [(2, 5), (4, 5), (5, 5)]
    told.clear()
    rerun_files(
        [row.file_id for row in rows],
        ingester,
        user="ann",
        tell=lambda *numbers: told.append(numbers),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_long_work_says_how_far_it_is(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 1)
    monkeypatch.setattr("buffer.progress.Progress.is_watched", staticmethod(lambda: False))
    monkeypatch.setattr("ingest.management.commands.rerun.LINE_EVERY_S", 0.0)
    for _ in range(3):
        known(ingester, make_file(), Status.FAILURE)
    out, err = io.StringIO(), io.StringIO()
    options = ("--ingester", ingester.name, "--status", "FAILURE")
    call_command("rerun", *options, stdout=out, stderr=err)
    assert out.getvalue().count("\n") == 1, "lines for a script stay as they are"
    lines = err.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"{n} of 3 files" for n in (1, 2, 3)]
    assert "MB/s" not in err.getvalue()
