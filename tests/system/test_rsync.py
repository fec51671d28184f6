"""Files that a real rsync puts into storage, found by its logs."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.statuses import Status
from tests.system.product import Product
from tests.tools import need

GOOD = [
    "plain.fits",
    "two words.fits",
    "nächtliche Aufnahme 望遠鏡.fits",
    "x => y",
    "bs\\#101.fits",
]


@pytest.mark.parametrize("format_option", [[], ["--log-file-format=%i %n%L"]], ids=["default", "i"])
def test_what_rsync_says(product: Product, format_option: list[str]) -> None:
    rsync = need("rsync")
    far, logs = product.root / "far", product.root / "logs"
    night = datetime.now(UTC)
    for directory in (far / "night", logs / f"{night:%Y%m%d}", logs / f"{night:%Y}0230"):
        directory.mkdir(parents=True)

    def transfer(log: str, when: datetime = night) -> None:
        path = logs / f"{when:%Y%m%d}" / log
        path.parent.mkdir(exist_ok=True)
        subprocess.run(
            [rsync, "-a", *format_option, f"--log-file={path}", f"{far}/",
             f"{product.storage}/"],
            check=True, timeout=60, env={**product.environment, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    def send(*names: str) -> None:
        for name in names:
            (far / "night" / name).write_text(f"content of {name}\n")

    finder = product.start(
        "runfinder",
        product.finder_yaml(
            source=str(logs),
            actions={"standard": "Noop", "alternative": None},
            search={"method": "parse_rsync_logs", "delay": 0.5, "date": f"{night:%Y-%m-%d}"},
        ),
    )
    ingester = product.start("runingester", product.ingester_yaml())
    send(*GOOD)
    (far / "night" / "latin\udce9.fits").write_text("no UTF-8\n")
    transfer("rsync_1.log")
    product.wait(lambda: product.final() == len(GOOD), "all that rsync sent is ingested")
    # Not twice for a second log that names new ones; and yesterday's counts, last week's does not.
    send("second.fits")
    transfer("rsync_2.log", night - timedelta(days=1))
    product.wait(lambda: product.final() == len(GOOD) + 1, "the second log is read")
    send("long ago.fits")
    transfer("rsync_3.log", night - timedelta(days=7))
    done = [path.name for path in logs.rglob("*.done")]
    product.wait(
        lambda: len(list(logs.rglob("*.done"))) == 2, f"both logs are done, and not only {done}"
    )
    finder.stops()
    ingester.stops()

    assert product.statuses() == {Status.SUCCESS: len(GOOD) + 1}
    names = {name for (name,) in product.rows("SELECT filename FROM buffer_file")}
    assert names == {*GOOD, "second.fits"}
    ((reason, line, detail),) = product.rows("SELECT reason, path, detail FROM buffer_refusal")
    assert reason == "BAD_NAME"
    assert "rsync_1.log:" in line
    assert r"night/latin\udce9.fits" in detail
    # Nothing of rsync's was touched.
    assert {path.name for path in (product.storage / "night").iterdir()} == {
        path.name for path in Path(far / "night").iterdir()
    }
    assert not (logs / f"{night - timedelta(days=7):%Y%m%d}" / "rsync_3.log.done").exists()
    product.check_at_rest()
