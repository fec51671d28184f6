"""`manage.py status` and what it shows."""

from __future__ import annotations

import io
import json
import os
import signal
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from buffer.models import (
    Component,
    ComponentKind,
    File,
    FindingKind,
    Refusal,
    RefusalReason,
    Suspicion,
)
from buffer.signals import StopSignals
from ingest import transitions
from ingest.models import Breaker, Ingester, Ingestion
from ingest.overview import overview
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("status", *args, stdout=out)
    return out.getvalue()


def test_nothing_yet() -> None:
    text = run()
    assert "No ingester is known yet" in text
    assert "No component is running" in text
    assert "No open refusals" in text
    assert json.loads(run("--json"))["ingesters"] == []


@pytest.fixture
def busy(ingester: Ingester, make_file: MakeFile) -> Ingester:
    """An ingester with one file of most kinds, and what is around it."""
    now = timezone.now()
    files = [make_file() for _ in range(6)]
    ids = [file.pk for file in files]
    transitions.create(ingester.pk, ids, Status.UNTRIED)
    rows = {row.file_id: row for row in Ingestion.objects.all()}

    def step(n: int, status: Status, **fields: Any) -> Step:
        return Step(rows[ids[n]].pk, ids[n], Status.UNTRIED, None, status, 1, **fields)

    transitions.apply(
        ingester.pk,
        [
            step(0, Status.SUCCESS),
            step(1, Status.FAILURE, next_attempt_on=now),
            step(2, Status.FAILURE),
            step(3, Status.RERUN),
        ],
    )
    Ingestion.objects.filter(file=ids[4]).update(claim=uuid.uuid4(), lease_until=now)
    Ingestion.objects.filter(file=ids[5]).update(changed_on=now - timedelta(hours=5))
    Ingester.objects.filter(pk=ingester.pk).update(watermark=ids[-1])
    # Above the watermark: one that is not opened, one that backfill knows, one on its way.
    make_file()
    transitions.create(ingester.pk, [make_file().pk], Status.BACKFILL)
    make_file(stored_on=None)
    run = Component.objects.create(
        kind=ComponentKind.INGESTER, subject=ingester.name, host="alpha", pid=1
    )
    Component.objects.create(
        kind=ComponentKind.SESSION,
        subject=ingester.name,
        host="alpha",
        pid=2,
        run=run,
        message="the repository does not answer: postgres://a:hunter2@h \x1b[2J",
    )
    Component.objects.create(
        kind=ComponentKind.FINDER,
        subject="/data/b\u202euffer",
        host="beta",
        pid=3,
        seen_on=now - timedelta(minutes=10),
    )
    Component.objects.create(
        kind=ComponentKind.FINDER, subject="/old", host="beta", pid=4, stopped_on=now
    )
    for key, resolved in (("1", None), ("2", None), ("3", now)):
        Refusal.objects.create(
            storage=ingester.storage,
            source="/b",
            path=key,
            key=key,
            reason=RefusalReason.CONFLICT,
            resolved_on=resolved,
        )
    for file, cleared in ((files[0], None), (files[1], now)):
        Suspicion.objects.create(file=file, kind=FindingKind.MISSING, cleared_on=cleared)
    return ingester


def test_what_it_counts(busy: Ingester) -> None:
    state = overview()
    (one,) = state.ingesters
    assert one.counts == {"SUCCESS": 1, "FAILURE": 2, "RERUN": 1, "UNTRIED": 2, "BACKFILL": 1}
    assert (one.unopened, one.waiting, one.held, one.retries, one.failed) == (1, 4, 1, 1, 2)
    assert one.live
    assert one.oldest_waiting is not None
    assert timedelta(hours=4) < state.at - one.oldest_waiting < timedelta(hours=6)
    assert one.messages == ["the repository does not answer: postgres://a:***@h \\x1b[2J"]
    assert [(row.kind, row.live) for row in state.components] == [
        ("finder", False),
        ("ingester", True),
    ]
    assert [(row.reason, row.count) for row in state.refusals] == [("CONFLICT", 2)]
    assert state.intents == 1
    assert [(row.kind, row.count) for row in state.suspects] == [("MISSING", 1)]


def test_the_table(busy: Ingester) -> None:
    text = run()
    assert busy.name in text and "NullIngest" in text
    assert "5 h ago" in text
    assert "10 min ago: SILENT" in text
    assert "/data/b\\u202euffer" in text
    assert "does not answer" in text and "hunter2" not in text and "\x1b" not in text
    assert "CONFLICT" in text
    assert "1 files are being taken in" in text
    assert "Suspect files" in text and "MISSING" in text


def test_json(busy: Ingester) -> None:
    state = json.loads(run("--json"))
    (one,) = state["ingesters"]
    assert (one["name"], one["waiting"], one["failed"]) == (busy.name, 4, 2)
    assert one["counts"]["FAILURE"] == 2
    assert state["refusals"][0]["count"] == 2
    assert state["suspects"][0]["count"] == 1


def test_an_ingester_that_pauses(busy: Ingester) -> None:
    assert json.loads(run("--json"))["ingesters"][0]["pause"] is None
    now = timezone.now()
    reason = "5 files in a row failed: postgres://a:hunter2@h \x1b[2J"
    Breaker.objects.create(ingester=busy, message=reason, opened_on=now, probe_on=now)
    # The command says it of itself, too: once is enough.
    (state,) = overview().ingesters
    Component.objects.filter(kind=ComponentKind.INGESTER).update(message=str(state.pause))
    text = run()
    assert text.count("paused since") == 2, "one of them is the component's"
    assert f"{busy.name}: paused since" in text and "is probed with one file at" in text
    assert "hunter2" not in text and "\x1b" not in text
    (one,) = json.loads(run("--json"))["ingesters"]
    assert one["pause"]["reason"].startswith("5 files in a row failed: postgres://a:***@h")
    assert (one["pause"]["probing"], one["pause"]["failed_probes"]) == (False, 0)


def test_the_cost_does_not_grow(
    busy: Ingester, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    with django_assert_max_num_queries(12):
        overview()


def test_a_database_that_is_not_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    from buffer import database_ready

    def refuse() -> None:
        raise database_ready.DatabaseError("run `manage.py migrate`")

    monkeypatch.setattr(database_ready, "require_migrated", refuse)
    for command in ("status", "explain", "rerun"):
        with pytest.raises(CommandError, match="run `manage") as caught:
            call_command(command, *(["x"] if command == "explain" else []))
        assert caught.value.returncode == 2


class Terminal(io.StringIO):
    """Takes what is printed, and pretends to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have a watch stop after its third pause; gives the pauses."""
    pauses: list[float] = []

    def wait(stop: StopSignals, seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return stop.requested

    monkeypatch.setattr(StopSignals, "wait", wait)
    return pauses


def test_watching(busy: Ingester, looks: list[float]) -> None:
    out = Terminal()
    call_command("status", "--watch", stdout=out)
    assert looks == [2.0] * 3
    assert out.getvalue().count("\x1b[H\x1b[J") == out.getvalue().count("Open refusals") == 3


def test_watching_in_a_pipe(busy: Ingester, looks: list[float]) -> None:
    text = run("--watch", "0.5")
    assert looks == [0.5] * 3
    assert text.count("Open refusals") == 3 and "\x1b" not in text


def test_watching_for_a_script(busy: Ingester, looks: list[float]) -> None:
    lines = run("--watch", "--json").splitlines()
    assert [json.loads(line)["ingesters"][0]["name"] for line in lines] == [busy.name] * 3


def test_watching_a_database_that_goes_away(
    busy: Ingester, looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.management.commands import status

    def away() -> None:
        raise OperationalError("postgres://a:hunter2@h is away")

    monkeypatch.setattr(status, "overview", away)
    monkeypatch.setattr("buffer.outages.away", lambda error: None)
    out, err = io.StringIO(), io.StringIO()
    call_command("status", "--watch", stdout=out, stderr=err)
    assert (out.getvalue(), err.getvalue().count("does not answer")) == ("", 3)
    assert "hunter2" not in err.getvalue()


@pytest.mark.parametrize("seconds", ["0", "x", "nan", "inf"])
def test_watching_needs_a_time(seconds: str) -> None:
    with pytest.raises(CommandError, match="expected a number of seconds"):
        run("--watch", seconds)
