"""`manage.py audit`: its arguments, what it prints, its exit status."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from buffer import audit_rows
from buffer.models import Storage, Suspicion
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled(ground: Ground) -> Ground:
    for n in range(4):
        ground.put(f"2026/exposure_{n}.fits", b"content of %d" % n)
    cycle(ground.finder())
    return ground


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Run it; give its exit status, what it printed and its error."""
    out = io.StringIO()
    try:
        call_command("audit", *map(str, arguments), stdout=out, stderr=io.StringIO())
    except CommandError as error:
        return error.returncode, out.getvalue(), str(error)
    return 0, out.getvalue(), ""


def write(ground: Ground, **sections: Any) -> Path:
    path = ground.root.with_name("component.yaml")
    path.write_text(yaml.safe_dump(sections))
    return path


def test_nothing_is_found(filled: Ground) -> None:
    status, out, _ = run("--checksums")
    assert status == 0
    assert out == (
        f"audit of files ({filled.root}): 4 rows and 4 files were looked at, 0.0 MB read; nothing"
        " found\n"
    )
    status, out, _ = run("--json")
    (report,) = json.loads(out)["storages"]
    assert (status, report["complete"], report["rows"]) == (0, True, 4)
    assert json.loads(out)["findings"] == [] and not any(report["found"].values())


def test_what_is_found(filled: Ground) -> None:
    (filled.root / "2026/exposure_1.fits").unlink()
    (filled.root / "2026/exposure_2.fits").write_bytes(b"")
    (filled.root / "new").write_bytes(b"")
    status, out, error = run()
    assert status == 1 and "3 findings; nothing was repaired" in error
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["MISSING", "2026/exposure_1.fits"],
        ["CHANGED", "2026/exposure_2.fits"],
        ["UNTRACKED", "new"],
    ]
    assert f"restore {filled.root}/2026/exposure_1.fits from a backup" in lines[0]
    assert lines[3].endswith("1 MISSING, 1 CHANGED, 1 UNTRACKED found")
    status, out, _ = run("--json")
    document = json.loads(out)
    assert status == 1 and len(document["findings"]) == 3
    one = document["findings"][0]
    assert (one["kind"], one["path"], one["storage"]) == ("MISSING", one["path"], "files")
    assert one["file"] == Suspicion.objects.get(kind="MISSING").file_id
    assert document["storages"][0]["found"]["UNTRACKED"] == 1
    (filled.root / "2026/exposure_1.fits").write_bytes(b"content of 1")
    assert "1 marks cleared" in run()[1]


def test_nothing_is_written_if_so_wished(filled: Ground) -> None:
    (filled.root / "2026/exposure_1.fits").unlink()
    assert run("--no-mark")[0] == 1
    assert not Suspicion.objects.exists()


def test_a_storage_that_is_not_mounted_does_not_keep_it_from_the_others(
    filled: Ground, tmp_path: Path
) -> None:
    Storage.objects.create(name="away", root=str(tmp_path / "nowhere"))
    status, out, error = run("--json")
    assert status == 1 and error.startswith("away: the storage area") and "files" not in error
    away, files = json.loads(out)["storages"]
    assert not away["complete"] and away["error"] and files["complete"]


def test_the_database_fails(filled: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise DatabaseError("it is gone; postgres://anna:hunter2@h/x")

    monkeypatch.setattr(audit_rows.RowsAudit, "_twins", fail)
    status, out, error = run("--json", "--no-mark")
    assert status == 1 and "it is gone" in error and "hunter2" not in error + out
    assert "it is gone" in json.loads(out)["error"]


@pytest.mark.parametrize("section", ["finder", "ingester", "backfill"])
def test_a_file_says_where_it_is_mounted(filled: Ground, section: str) -> None:
    """The recorded path is that of another host; the YAML file says where it is here."""
    Storage.objects.update(root="/on/another/host")
    assert run()[0] == 1
    options = {
        "finder": filled.options,
        "ingester": {"plugin": {"name": "NullIngest"}, "storage": str(filled.root)},
        "backfill": {"storage": str(filled.root), "sources": ["*"]},
    }[section]
    config = write(filled, **{section: options})
    assert run(config)[0] == 0
    (filled.root / "new").write_bytes(b"")
    status, out, _ = run(config)
    assert status == 1 and "UNTRACKED new" in out


def test_what_a_backfill_leaves_out(filled: Ground) -> None:
    (filled.root / "old").mkdir()
    (filled.root / "old/x.log").write_bytes(b"")
    section = {"storage": str(filled.root), "sources": ["*"]}
    assert run(write(filled, backfill=section))[0] == 1
    config = write(filled, backfill={**section, "search": {"exclude_list": [r"\.log$"]}})
    assert run(config)[0] == 0


def test_an_ingester_that_does_not_say_where(filled: Ground) -> None:
    assert run(write(filled, ingester={"plugin": {"name": "NullIngest"}}))[0] == 0


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({}, "has no section finder, ingester or backfill"),
        ({"finder": {"source": "/x"}}, "finder.storage"),
        ({"ingester": {"storage": 7}}, "ingester.storage"),
        (
            {"ingester": {}, "database": {"tablenames": {"file": {"table": "others"}}}},
            "no storage area 'others'",
        ),
    ],
)
def test_files_that_cannot_be_used(filled: Ground, sections: Any, text: str) -> None:
    status, out, error = run(write(filled, **sections))
    assert (status, out) == (2, "") and text in error


def test_a_file_that_is_not_there() -> None:
    assert run("/nowhere.yaml")[0] == 2


@pytest.mark.parametrize(
    "arguments", [("--subset", "4/3"), ("--max-rate", "0"), ("--max-rate", "x"), ("--what",)]
)
def test_arguments_that_cannot_be_used(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="Error: "):
        call_command("audit", *arguments)


def test_a_part_at_a_rate(filled: Ground) -> None:
    rows = 0
    for part in range(1, 4):
        status, out, _ = run("--subset", f"{part}/3", "--json", "--checksums", "--max-rate", "100")
        assert status == 0
        rows += json.loads(out)["storages"][0]["rows"]
    assert rows == 4
