"""Every evil plugin in a batch of fifty with one evil file, from the claim to the rows.

No test has "evil" in its name: it would be in all its paths, and the plugins look for it there.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from buffer.models import File
from ingest import transitions
from ingest.config import IngesterSection
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from ingest.targets import Run
from ingest.worker import Worker
from tests.ingest import evil_plugins as evil
from tests.ingest.test_attempt import EVIL_AT, wait_for
from tests.ingest.test_plugin_host import open_fds
from tests.system import process_table
from tests.tally import Tally

pytestmark = pytest.mark.django_db


COUNT = 50
#: "In under 10 s", beyond the deadline that a plugin that hangs was given.
WITHIN_S = 10.0
#: A file's deadline where the plugin hangs, in seconds; else it does not matter.
SHORT_S = 0.2

VARIANTS = ["Contains", "InOrder", "Neither"]
#: One of each kind of end, for every run of the tests.
FEW = [
    (evil.segfault, "Contains"),
    (evil.write_into_pipe, "InOrder"),
    (evil.hopeless_regex, "InOrder"),
    (evil.sys_exit, "Neither"),
    (evil.yields_nothing, "Contains"),
    (evil.change_surroundings, "Neither"),
]
MANY = [(function, variant) for function in evil.ALL for variant in VARIANTS]

Work = Callable[..., float]


@pytest.fixture
def work(
    ingester: Ingester,
    make_file: Callable[..., File],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Work]:
    """Have a worker bring a batch of fifty files to its end; give how long it took."""
    workers: list[Worker] = []
    target, scratch = tmp_path / "target", tmp_path / "scratch"
    target.mkdir()
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("EVIL_UNDER_TEST", str(tmp_path))

    def run(plugin: str, timeout_s: float) -> float:
        names = [f"file{n:02}" if n != EVIL_AT else "evil" for n in range(COUNT)]
        files = [make_file(filename=name, content=b"1") for name in names]
        transitions.create(ingester.pk, [file.pk for file in files], Status.UNTRIED)
        name = f"{evil.__name__}.{plugin}"
        settings.INGEST_PLUGINS = [name]
        section = IngesterSection.model_validate(
            {
                "plugin": {"name": name, "config": {"target": str(target)}},
                "batch_size": COUNT,
                "timeout": timeout_s,
            }
        )
        worker = Worker(Run.begin(ingester, section), stopping=lambda: False, beat=lambda: None)
        workers.append(worker)
        begin = time.monotonic()
        claims = 0
        while worker.step():
            claims += 1
            assert claims < 5, "the same files are claimed again and again"
        return time.monotonic() - begin

    yield run
    for worker in workers:
        worker.close()
    mark = f"EVIL_UNDER_TEST={tmp_path}"
    wait_for(lambda: not process_table.with_environment(mark), 5)
    assert not list(scratch.iterdir()), "temporary files are left"


def states() -> dict[str, tuple[str, int]]:
    """Give status and attempts of each file."""
    rows = Ingestion.objects.values_list("file__filename", "status", "attempts")
    return {name: (status, attempts) for name, status, attempts in rows}


def expected(function: Any, variant: str) -> tuple[set[str], int]:
    """Tell what may become of the evil file, and how many others stay unknown with it."""
    if function in evil.HARMLESS:
        return {Status.SUCCESS}, 0
    alone = function in evil.SILENT or variant != "Neither"
    others = 0 if alone else COUNT - 1 - (EVIL_AT - evil.LAG)
    failed = function in evil.RAISING and variant != "Neither"
    return {Status.FAILURE if failed else Status.UNKNOWN}, others


def check(work: Work, target: Path, function: Any, variant: str) -> float:
    hangs = function in evil.HANGING
    timeout_s = SHORT_S if hangs else 30.0
    budget_s = timeout_s * (1 if variant == "InOrder" else COUNT) if hangs else 0.0
    took_s = work(evil.class_name(function, variant), timeout_s) - budget_s
    found = states()
    status, attempts = found.pop("evil")
    allowed, unknown = expected(function, variant)
    assert status in allowed
    assert attempts == 1
    ends = Counter(found.values())
    assert ends == Counter(
        {
            key: count
            for key, count in {
                ("SUCCESS", 1): COUNT - 1 - unknown,
                ("UNKNOWN", 1): unknown,
            }.items()
            if count
        }
    )
    last = FileEvent.objects.filter(file__filename="evil").latest("id")
    if status != Status.SUCCESS:
        assert last.err_message and last.cause
    # Once in the batch and once alone, and nobody else more often than that.
    calls = Counter((target / "calls").read_text().split())
    assert calls["evil"] <= 2
    assert max(calls.values()) <= 2
    assert FileEvent.objects.filter(file__filename="evil").count() <= 4
    assert took_s < WITHIN_S
    return took_s


@pytest.mark.parametrize(("function", "variant"), FEW)
def test_one_in_fifty(
    work: Work, tmp_path: Path, tally: Tally, function: Any, variant: str
) -> None:
    tally("evil file in a batch", 1, check(work, tmp_path / "target", function, variant))


@pytest.mark.full
@pytest.mark.parametrize(("function", "variant"), MANY)
def test_each_in_fifty(
    work: Work, tmp_path: Path, tally: Tally, function: Any, variant: str
) -> None:
    descriptors = len(open_fds())
    took_s = check(work, tmp_path / "target", function, variant)
    # Those of the host that lives.
    assert len(open_fds()) <= descriptors + 8
    assert not [pid for pid in process_table.pids() if is_our_zombie(pid)]
    tally(f"evil file in a batch: {function.__name__}", 1, took_s)


def is_our_zombie(pid: int) -> bool:
    """Whether a dead child was not reaped by this process; a plugin's own go with its host."""
    found = process_table.read(pid)
    return found is not None and found[:2] == ("Z", os.getpid())
