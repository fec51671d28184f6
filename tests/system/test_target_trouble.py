"""Targets that are down, busy, or refuse; runs that must end all the same."""

from __future__ import annotations

from pathlib import Path

from ingest.statuses import Status
from tests.system.product import Product


def attempts(path: Path) -> dict[str, list[float]]:
    """Read when the moody plugin was given each file."""
    times: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        name, _, moment = line.rpartition(" ")
        times.setdefault(name, []).append(float(moment))
    return times


def test_a_target_that_is_down_costs_no_attempts(product: Product) -> None:
    product.add_plugins()
    down, listed = product.root / "down", product.root / "list"
    down.touch()
    for number in range(5):
        product.land(f"{number}.fits")
    product.start("runfinder", product.finder_yaml())
    ingester = product.start(
        "runingester",
        product.ingester_yaml(
            "observatory_plugins.SometimesDown", {"list": str(listed), "down": str(down)}
        ),
    )
    product.wait(lambda: ingester.says("pauses: plugin"), "it says so")
    product.wait(lambda: product.statuses() == {Status.UNTRIED: 5}, "files are known")
    assert product.value("SELECT max(attempts) FROM ingest_ingestion") == 0
    message = "SELECT count(*) FROM buffer_component WHERE message LIKE '%%does not answer%%'"
    message = message if product.is_postgresql else message.replace("%%", "%")
    product.wait(lambda: product.value(message), "status says so, too")
    down.unlink()
    product.wait(lambda: product.statuses() == {Status.SUCCESS: 5}, "it goes on by itself")
    assert product.value("SELECT max(attempts) FROM ingest_ingestion") == 1
    assert product.history("0.fits") == ["UNTRIED", "PENDING", "SUCCESS"]

    # Stopped while the target is down: at once, and nothing is held.
    down.touch()
    ingester.stops()
    product.land("late.fits")
    again = product.start("runingester", product.root / "ingester.yaml")
    product.wait(lambda: again.says("pauses: plugin"), "it says so")
    product.wait(lambda: product.status_of("late.fits") == Status.UNTRIED, "known")
    again.stops()
    assert product.status_of("late.fits") == Status.UNTRIED


def test_transient_failures_are_tried_again_and_permanent_ones_never(product: Product) -> None:
    product.add_plugins()
    tried = product.root / "tried"
    for name in ("good.fits", "bad.fits", "busy.fits", "2-late.fits", "3-late.fits"):
        product.land(name)
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    plugin = ("observatory_plugins.Moody", {"list": str(tried)})

    # Without `retry`: each once, whatever the plugin says.
    done = product.run("runingester", product.ingester_yaml(*plugin), "--once")
    assert "4 FAILURE, 5 PENDING, 1 SUCCESS" in done.succeeded()

    # With it, for other files; those that had failed before it was configured are let alone.
    for name in ("good2.fits", "bad2.fits", "busy2.fits", "2-late2.fits", "3-late2.fits"):
        product.land(name)
    product.run("runfinder", product.root / "finder.yaml", "--once").succeeded()
    retry = {"max_attempts": 4, "backoff": 0.5, "max_backoff": 60}
    yaml = product.ingester_yaml(*plugin, name="retry.yaml", retry=retry)
    product.run("runingester", yaml, "--once").succeeded()
    product.check_at_rest()

    found = attempts(tried)
    assert {name: len(times) for name, times in found.items()} == {
        "good.fits": 1, "bad.fits": 1, "busy.fits": 1, "2-late.fits": 1, "3-late.fits": 1,
        "good2.fits": 1, "bad2.fits": 1, "busy2.fits": 4, "2-late2.fits": 2, "3-late2.fits": 3,
    }  # fmt: skip
    assert product.status_of("busy2.fits") == Status.FAILURE
    assert product.status_of("bad2.fits") == Status.FAILURE
    assert product.status_of("3-late2.fits") == Status.SUCCESS
    assert product.history("2-late2.fits") == [
        "UNTRIED", "PENDING", "FAILURE", "PENDING", "SUCCESS"
    ]  # fmt: skip
    # 0.5 s, 1 s, 2 s, each 20 % more or less.
    gaps = [b - a for a, b in zip(found["busy2.fits"], found["busy2.fits"][1:], strict=False)]
    for gap, least in zip(gaps, (0.4, 0.8, 1.6), strict=True):
        assert gap >= least, gaps
    rows = product.rows(
        "SELECT n.attempts, n.next_attempt_on FROM ingest_ingestion n"
        " JOIN buffer_file f ON f.id = n.file_id WHERE f.filename = 'busy2.fits'"
    )
    assert rows == [(4, None)]


def test_a_run_that_is_to_end_does(product: Product) -> None:
    """`daemon: false` with statuses that come back for ever: each file once in a run."""
    product.add_plugins()
    tried = product.root / "tried"
    for name in ("bad1.fits", "bad2.fits", "busy.fits", "notes.txt"):
        product.land(name)
    product.land("empty.fits", b"")
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    plugin = ("observatory_plugins.Moody", {"list": str(tried)})
    lists = {"exclude_list": [r"\.txt$"], "daemon": False}
    everything = ["UNTRIED", "RERUN", "FAILURE", "UNKNOWN", "IGNORED", "INVALID", "BACKFILL"]
    first = product.ingester_yaml(*plugin, **lists, file_status=everything)
    statuses = {Status.FAILURE: 3, Status.IGNORED: 1, Status.INVALID: 1}
    for run in (1, 2):
        product.run("runingester", first).succeeded()
        assert product.statuses() == statuses
        assert {len(times) for times in attempts(tried).values()} == {run}
    only = product.ingester_yaml(*plugin, **lists, name="failures.yaml", file_status="FAILURE")
    assert "3 FAILURE, 3 PENDING" in product.run("runingester", only).succeeded()
    assert product.history("notes.txt") == ["UNTRIED", "IGNORED", "IGNORED"]
    assert product.history("empty.fits") == ["UNTRIED", "INVALID", "INVALID"]
    # Nothing has the status: it ends at once.
    none = product.ingester_yaml(*plugin, **lists, name="rerun.yaml", file_status="RERUN")
    assert "nothing to do" in product.run("runingester", none).succeeded()
    product.check_at_rest()
