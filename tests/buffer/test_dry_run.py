"""What a finder would do, said and not done."""

from __future__ import annotations

import os
import time

import pytest

from buffer.dry_run import rehearse
from buffer.finder_config import FinderFile
from buffer.models import File, Refusal
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


def said(ground: Ground, **changes: object) -> dict[str, str]:
    section = {**ground.options, **changes}
    lines = rehearse(FinderFile.model_validate({"finder": section}))
    return {path: fate for fate, _, path in (line.partition("\t") for line in lines)}


def test_every_fate(ground: Ground) -> None:
    ground.put("stored")
    ground.put("taken", b"old")
    cycle(ground.finder())
    (ground.root / "untracked").write_bytes(b"x")
    for name in ("new", "d/stored", "untracked", "out.log"):
        ground.put(name)
    ground.put("taken", b"other")
    ground.put("bad\nname")
    os.symlink("x", ground.source / "link")
    before = sorted(ground.source.rglob("*"))
    with open(ground.put("written"), "ab"):
        found = said(ground, search={"method": "scan", "delay": 0, "exclude_list": [r"\.log$"]})
    assert found.pop(r"bad\x0aname").startswith("refused, BAD_NAME")
    assert found.pop("d/stored").startswith("duplicate of stored file")
    assert found.pop("taken").startswith("refused, conflict with stored file")
    assert found.pop("untracked").startswith("refused, if it is not the same")
    assert found.pop("written") in ("waits: somebody is writing it", "would be stored")
    assert found == {
        "link": "refused, NOT_REGULAR",
        "new": "would be stored",
        "out.log": r"excluded by '\\.log$'",
    }
    assert sorted(ground.source.rglob("*")) == [*before, ground.source / "written"]
    assert File.objects.count() == 2
    assert not Refusal.objects.exists()


def test_what_is_not_settled(ground: Ground) -> None:
    ground.put("a")
    assert said(ground, search={"method": "scan", "delay": 60}) == {
        "a": "waits: it changed just now"
    }


def test_logs(ground: Ground) -> None:
    day = ground.source / f"{time.strftime('%Y%m%d', time.gmtime())}"
    day.mkdir()
    log = day / "rsync.log"
    log.write_text(
        "2026/11/23 10:00:00 [42] >f+++++++++ a\n2026/11/23 10:00:00 [42] >f+++++++++ b\n"
    )
    os.utime(log, (time.time() - 9, time.time() - 9))
    (ground.root / "a").write_bytes(b"x")
    found = said(
        ground, actions={"standard": "Noop"}, search={"method": "parse_rsync_logs", "delay": 1}
    )
    assert found == {"a": "would be recorded"}
    assert os.listdir(day) == ["rsync.log"]
    assert not Refusal.objects.exists()
