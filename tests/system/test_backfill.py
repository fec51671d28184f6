"""`manage.py backfill` as it is run: a process, its workers, a real database."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from buffer import processes
from buffer.models import Component, File, Refusal, Storage
from ingest import transitions
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status

TOP = Path(__file__).resolve().parents[2]
QUICKSTART = TOP / "tests" / "quickstart" / "backfill.yaml"
NAME = "gen2_file_events"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def clean_views() -> Iterator[None]:
    """Views outlive the rows that a test's database loses."""
    yield
    with connection.cursor() as cursor:
        for view in ("files", NAME):
            cursor.execute(f'DROP VIEW IF EXISTS "{view}"')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "storage"
    path.mkdir()
    return path


def engine() -> str:
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


def config(root: Path, *sources: str, extra: str = "") -> Path:
    """The quickstart's file with another database and storage, and perhaps other sources."""
    text = QUICKSTART.read_text()
    text = text.replace("postgres://tester:password@localhost:5432/test", engine())
    text = text.replace("/data/storage", str(root))
    if sources:
        text = text.replace('["2020-12-31"]', "").replace('    - "2020-12-31"\n', "")
        text += "".join(f"    - {json.dumps(source)}\n" for source in sources)
    path = root.with_name("backfill.yaml")
    path.write_text(text + extra)
    return path


def put(root: Path, *paths: str, content: bytes | None = None) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode() if content is None else content)


def put_much(root: Path, *, large: int = 0, small: int = 0) -> int:
    """Make work for some seconds: sparse files are made at once and take time to read."""
    for number in range(large):
        path = root / "2020-12-31" / f"large{number:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(200 << 20)
    put(root, *(f"2020-12-31/{n % 7}/{n}.fits" for n in range(small)))
    return large + small


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "endpoint_site.settings",
        "INGEST_PLUGINS": "tests.ingest.backfill_target.Catalogue",
        "PYTHONPATH": str(TOP),
    }
    defaults: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "manage.py", *map(str, arguments)]
    return subprocess.Popen(command, cwd=TOP, env=environment, **{**defaults, **options})


def backfill(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """Run it to its end; give what it wrote to standard output and error."""
    process = start("backfill", *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    return out, err


def wait(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return result


def statuses() -> dict[str, int]:
    """Current statuses; every one is that of the newest event, and every file has just one row."""
    for row in Ingestion.objects.all():
        newest = FileEvent.objects.filter(file=row.file_id, ingester=row.ingester_id).order_by("id")
        assert [e.pk for e in newest][-1] == row.last_event_id
        assert [e.status for e in newest][-1] == row.status
    return dict(Counter(Ingestion.objects.values_list("status", flat=True)))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    def is_worker(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/comm").read_text().startswith("worker")
        except OSError:
            return False

    return [p.pid for p in processes.descendants(process.pid) if is_worker(p.pid)]


def has_open(pid: int, root: Path) -> bool:
    """Tell whether a process has anything of a directory open."""
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink().is_relative_to(root):
                return True
    return False


def test_the_quickstart(root: Path) -> None:
    put(root, "2020-12-31/a.fits", "2020-12-31/raw/b.fits", "2020-12-31/raw/b.json")
    put(root, "2021-01-01/later.fits", "2020-12-31/half.part", "2020-12-31/empty", content=b"")
    yaml = config(root)
    out = backfill(yaml)[0]
    assert out == "backfill: 4 found, 4 added, 0 tracked, 0 failed\n"
    assert statuses() == {Status.BACKFILL: 4}
    paths = sorted(file.path for file in File.objects.all())
    assert paths == [f"2020-12-31/{n}" for n in ("a.fits", "empty", "raw/b.fits", "raw/b.json")]
    ingester = Ingester.objects.get()
    assert (ingester.name, ingester.plugin, ingester.started_on) == (NAME, "", None)
    assert Storage.objects.get().marked_on is not None
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT status, COUNT(*) FROM {NAME} GROUP BY status")
        assert cursor.fetchall() == [("BACKFILL", 4)]
        cursor.execute("SELECT COUNT(*) FROM files WHERE relpath = '2020-12-31'")
        assert cursor.fetchone() == (2,)
    # Once more: nothing is done twice.
    assert backfill(yaml)[0] == "backfill: 4 found, 0 added, 4 tracked, 0 failed\n"
    assert FileEvent.objects.count() == 4
    # Nothing is left of the runs but their own rows.
    runs = Component.objects.order_by("id")
    assert [(run.kind, run.stopped_on is None) for run in runs] == [("backfill", False)] * 2
    assert runs[0].counters == {"found": 4, "added": 4, "tracked": 0, "failed": 0, "taken_over": 0}


def test_what_fails_is_told_and_stops_nothing(root: Path) -> None:
    put(root, *(f"2020/{n}.fits" for n in range(500)), "2021/x.fits", "2021/x.log")
    (root / "2020" / "link").symlink_to("/etc/passwd")
    put(root, "2020/bad\nname")
    extra = "  search:\n    exclude_list: ['\\.log$']\n"
    yaml = config(root, "2020", "2021/*", "2022", "*/x.fit", extra=extra)
    out, err = backfill(yaml, status=1)
    assert out == "backfill: 503 found, 501 added, 0 tracked, 2 failed, 1 excluded\n"
    assert f"backfill.sources: 2022 matched nothing below {root}" in err
    assert "backfill.sources: */x.fit matched nothing" in err
    assert "2021" not in err
    assert "2 files were not recorded" in err
    refusals = Refusal.objects.unresolved().filter(source=str(root)).order_by("path")
    assert [(r.path, r.reason) for r in refusals] == [
        (r"2020/bad\x0aname", "BAD_NAME"),
        ("2020/link", "NOT_REGULAR"),
    ]
    assert statuses() == {Status.BACKFILL: 501}
    summary = json.loads(backfill(yaml, "--json", status=1)[0])
    assert (summary["found"], summary["tracked"], summary["failed"]) == (503, 501, 2)
    assert (summary["unmatched"], summary["complete"]) == (["2022", "*/x.fit"], True)


def test_a_dry_run_touches_nothing(root: Path) -> None:
    put(root, "2020/a.fits", "2020/b.fits")
    (root / "2020" / "link").symlink_to("a.fits")
    before = sorted(root.rglob("*"))
    out, err = backfill(config(root, "2020", "gone"), "--dry-run", status=1)
    *lines, summary = out.splitlines()
    assert sorted(lines)[:2] == ["would be added\t2020/a.fits", "would be added\t2020/b.fits"]
    assert sorted(lines)[2].startswith("would fail, NOT_REGULAR: ")
    assert summary == "backfill: 3 found, 2 added, 0 tracked, 1 failed"
    assert "gone matched nothing" in err
    assert sorted(root.rglob("*")) == before
    for model in (File, Storage, Ingester, Refusal, Component):
        assert not model.objects.exists()
    (root / "2020" / "link").unlink()
    backfill(config(root, "2020"))
    put(root, "2020/a.fits", content=b"more than it was")
    put(root, "2020/c.fits")
    out = backfill(config(root, "2020"), "--dry-run", status=1)[0]
    assert "tracked\t2020/b.fits\n" in out
    assert "would be added\t2020/c.fits\n" in out
    assert "CHANGED_IN_STORAGE: it has 16 bytes, and 11 were recorded\t2020/a.fits\n" in out


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ([], lambda text: text.replace("2020-12-31", "/etc"), "backfill.sources[0]: is absolute"),
        ([], lambda text: text.replace("2020-12-31", "../x"), "backfill.sources[0]: leads out of"),
        ([], lambda text: text.replace("storage:", "strage:"), "backfill.strage: "),
        ([], lambda text: text.replace("/storage", "/gone"), "backfill.storage: there is no"),
        ([], lambda text: text.replace(NAME, "files"), "database.tablenames.event.table: is the"),
        (["--workers", "0"], str, "--workers: expected a number from 1 to 64, got '0'"),
        (["--workers", "x"], str, "--workers: expected a number from 1 to 64, got 'x'"),
        (["--verify"], str, "--verify: there is no ingester 'gen2_file_events'"),
    ],
)
def test_bad_usage(
    root: Path, arguments: list[str], change: Callable[[str], str], message: str
) -> None:
    put(root, "2020-12-31/a.fits")
    yaml = config(root)
    yaml.write_text(change(yaml.read_text()))
    out, err = backfill(yaml, *arguments, status=2)
    assert message in err
    assert out == ""
    assert not Storage.objects.exists()
    assert sorted(os.listdir(root)) == ["2020-12-31"]


def test_an_ingester_of_another_storage(root: Path) -> None:
    put(root, "2020-12-31/a.fits")
    other = Storage.objects.create(name="others", root="/data/others")
    Ingester.objects.create(name=NAME, storage=other)
    assert "reads the storage 'others'" in backfill(config(root), status=2)[1]
    assert Storage.objects.count() == 1


def test_a_storage_that_is_not_mounted(root: Path) -> None:
    put(root, "2020-12-31/a.fits")
    backfill(config(root))
    (root / ".endpoint-storage").unlink()
    put(root, "2020-12-31/b.fits")
    assert "is its file system mounted?" in backfill(config(root), status=1)[1]
    assert File.objects.count() == 1


def test_a_worker_is_killed(root: Path) -> None:
    count = put_much(root, large=4, small=300)
    process = start("backfill", config(root), "--workers", "2")
    wait(lambda: any(has_open(pid, root) for pid in workers_of(process)))
    for pid in workers_of(process):
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == f"backfill: {count} found, {count} added, 0 tracked, 0 failed\n"
    assert "was lost with its worker; it is sent again" in err
    assert statuses() == {Status.BACKFILL: count}
    assert FileEvent.objects.count() == count


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_and_run_again(root: Path, signum: signal.Signals) -> None:
    count = put_much(root, large=7, small=600)
    yaml = config(root)
    process = start("backfill", yaml)
    wait(lambda: File.objects.exists() or process.poll() is not None)
    family = processes.descendants(process.pid)
    begin = time.monotonic()
    process.send_signal(signum)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - begin < 5
    first = File.objects.count()
    assert 0 < first < count
    if signum == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 0, err
        assert "stopped before the end; run it again to do the rest" in out
    # Its workers died with it: what is done from here on is done by the next run.
    wait(lambda: not [p for p in family if Path(f"/proc/{p.pid}").exists()], 5)
    assert statuses() == {Status.BACKFILL: first}
    first = File.objects.count()
    again = backfill(yaml)[0]
    assert again == f"backfill: {count} found, {count - first} added, {first} tracked, 0 failed\n"
    assert statuses() == {Status.BACKFILL: count}
    assert FileEvent.objects.count() == count


def test_an_ingester_and_a_finder_at_work(root: Path, tmp_path: Path) -> None:
    count = put_much(root, small=1500)
    buffer = tmp_path / "buffer"
    storage = Storage.objects.create(name="files", root=str(root))
    ingester = Ingester.objects.create(
        name=NAME, storage=storage, plugin="NullIngest", started_on=timezone.now()
    )
    put(buffer, *(f"2020-12-31/new/{n}.fits" for n in range(60)))
    finder_yaml = tmp_path / "finder.yaml"
    finder_yaml.write_text(
        f"database: {{engine: '{engine()}'}}\n"
        f"finder: {{source: {buffer}, storage: {root}, search: {{method: scan, delay: 0}},\n"
        f"         actions: {{standard: Move}}}}\n"
    )
    finder = start("runfinder", finder_yaml, "--once")
    process = start("backfill", config(root))
    passes = 0
    opened: list[int] = []
    while process.poll() is None:
        # What an ingester does: every stored file that it does not know is new.
        known = Ingestion.objects.filter(ingester=ingester).values("file_id")
        new = File.objects.stored().exclude(id__in=known).values_list("id", flat=True)
        opened += transitions.create(ingester.pk, list(new), Status.UNTRIED)
        passes += 1
        time.sleep(0.005)
    err = process.communicate()[1]
    assert process.returncode == 0, err
    assert finder.communicate(timeout=60)[0].startswith("finder stopped: 60 stored")
    assert passes > 5
    new = File.objects.filter(seen_on__isnull=False)
    old = File.objects.filter(seen_on__isnull=True)
    assert (new.count(), old.count()) == (60, count)
    assert set(opened) <= set(new.values_list("id", flat=True))
    of_old = FileEvent.objects.filter(file__in=old)
    assert Counter(of_old.values_list("status", flat=True)) == {Status.BACKFILL: count}
    assert not FileEvent.objects.filter(file__in=new, status=Status.BACKFILL).exists()


class TestVerify:
    @pytest.fixture
    def target(self, root: Path) -> Callable[..., Ingester]:
        put(root, "2020-12-31/a.fits", "2020-12-31/b.fits", "2020-12-31/c.fits")
        backfill(config(root))

        def started(plugin: str = "tests.ingest.backfill_target.Catalogue", **c: Any) -> Ingester:
            Ingester.objects.update(
                plugin=plugin,
                settings={"plugin": {"name": plugin, "config": c}},
                started_on=timezone.now(),
            )
            return Ingester.objects.get()

        return started

    def test_what_the_target_has(self, root: Path, target: Callable[..., Ingester]) -> None:
        ingester = target(has=["a.fits", "c.fits", "d.fits"], root=str(root))
        put(root, "2020-12-31/d.fits")
        busy = Ingestion.objects.get(file__filename="c.fits")
        transitions.apply(
            ingester.pk,
            [transitions.Step(busy.pk, busy.file_id, Status.BACKFILL, None, Status.RERUN, 0)],
        )
        out = backfill(config(root), "--verify")[0]
        assert out == (
            "backfill: 4 found, 1 added, 3 tracked, 0 failed, 2 verified, 1 absent, 0 unanswered\n"
        )
        rows = {row.file.filename: row for row in Ingestion.objects.select_related("file")}
        assert {name: row.status for name, row in rows.items()} == {
            "a.fits": Status.SUCCESS,
            "b.fits": Status.FAILURE,
            "c.fits": Status.RERUN,
            "d.fits": Status.SUCCESS,
        }
        assert rows["b.fits"].cause == "the plugin says that the target does not have it"
        event = FileEvent.objects.get(pk=rows["d.fits"].last_event_id)
        assert (event.ingest_ver, event.note) == ("catalogue 7", "verified by backfill")
        history = FileEvent.objects.filter(file__filename="d.fits").order_by("id")
        assert [e.status for e in history] == [Status.BACKFILL, Status.SUCCESS]
        statuses()
        # What has an outcome is not asked about again.
        assert "0 verified, 0 absent" in backfill(config(root), "--verify")[0]

    def test_a_file_that_kills_the_plugin(
        self, root: Path, target: Callable[..., Ingester]
    ) -> None:
        target(has=["a.fits"], deadly="b.fits")
        out, err = backfill(config(root), "--verify", status=1)
        assert "1 verified, 1 absent, 1 unanswered" in out
        assert "of 1 files the plugin could not tell" in err
        assert Ingestion.objects.get(file__filename="b.fits").status == Status.BACKFILL

    def test_a_target_that_is_away(self, root: Path, target: Callable[..., Ingester]) -> None:
        target(has=[], away=True)
        assert "the catalogue is away" in backfill(config(root), "--verify", status=1)[1]
        assert statuses() == {Status.BACKFILL: 3}

    def test_an_ingester_without_a_plugin(
        self, root: Path, target: Callable[..., Ingester]
    ) -> None:
        err = backfill(config(root), "--verify", status=2)[1]
        assert "'gen2_file_events' was never started" in err

    def test_a_plugin_that_cannot_tell(self, root: Path, target: Callable[..., Ingester]) -> None:
        target("NullIngest")
        err = backfill(config(root), "--verify", status=2)[1]
        assert "NullIngest of the ingester 'gen2_file_events' cannot tell" in err

    def test_a_plugin_that_is_not_allowed_any_more(
        self, root: Path, target: Callable[..., Ingester]
    ) -> None:
        target("site.Gone")
        assert "INGEST_PLUGINS" in backfill(config(root), "--verify", status=2)[1]


def test_a_bar_on_a_terminal(root: Path) -> None:
    put_much(root, large=2, small=300)
    ours, theirs = pty.openpty()
    seen = b""

    def read() -> None:
        nonlocal seen
        try:
            while data := os.read(ours, 4096):
                seen += data
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    process = start("backfill", config(root), stderr=theirs)
    os.close(theirs)
    out = process.communicate(timeout=60)[0]
    reader.join(5)
    os.close(ours)
    assert out == "backfill: 302 found, 302 added, 0 tracked, 0 failed\n"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "302 of 302 files" in text
    assert re.search(r"files, [\d,]+ files/s, [\d,.]+ MB/s, \d+ s left", text)
