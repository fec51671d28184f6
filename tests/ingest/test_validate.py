from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

TOP = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def good_finder(tmp_path: Path) -> Path:
    for name in ("buffer", "storage"):
        (tmp_path / name).mkdir()
    path = tmp_path / "finder.yaml"
    path.write_text(
        f"database: {{engine: 'postgres://tester:hunter2@nowhere.invalid/test'}}\n"
        f"finder:\n  source: {tmp_path}/buffer\n  storage: {tmp_path}/storage\n"
        f"  actions: {{standard: Move}}\n  search: {{method: scan}}\n"
    )
    return path


def file(tmp_path: Path, text: str, name: str = "a.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def validate(*paths: Path, **options: Any) -> str:
    out = io.StringIO()
    call_command("validate", *map(str, paths), stdout=out, **options)
    return out.getvalue()


def problems(*paths: Path) -> list[str]:
    with pytest.raises(CommandError) as caught:
        validate(*paths)
    assert caught.value.returncode == 2
    return str(caught.value).split("\n")


def test_good_files(tmp_path: Path) -> None:
    finder = good_finder(tmp_path)
    ingester = file(tmp_path, "ingester: {plugin: {name: NullIngest}}")
    assert validate(finder, ingester) == f"{finder}: ok (finder)\n{ingester}: ok (ingester)\n"


def test_nothing_is_touched(tmp_path: Path) -> None:
    finder = good_finder(tmp_path)
    text = finder.read_text() + f"logging: {{file: {tmp_path}/log}}\n"
    finder.write_text(text)
    before = sorted(tmp_path.rglob("*"))
    validate(finder)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_error_of_every_file(tmp_path: Path) -> None:
    one = file(tmp_path, "finder: {source: /a, puase: 1, search: {method: x}}", "one.yaml")
    two = file(tmp_path, f"backfill: {{storage: {tmp_path}/gone, sources: []}}", "two.yaml")
    three = file(tmp_path, "- 1", "three.yaml")
    found = problems(one, two, good_finder(tmp_path), three, tmp_path / "gone.yaml")
    assert found[0] == "6 problems in the configuration:"
    assert [line.partition(": ")[0] for line in found[1:]] == [
        f"{one}:1",
        f"{one}:1",
        f"{one}:1",
        f"{two}:1",
        f"{three}:1",
        f"{tmp_path}/gone.yaml",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("database: {}", "has no section finder, ingester or backfill"),
        ("findr: {}", 'did you mean "finder" by "findr"?'),
        ("finder: {}\ningester: {}", "has the sections finder and ingester: expected one"),
        ("a: 1\na: 2", "a: is there twice"),
    ],
)
def test_files_of_no_component(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in line for line in problems(file(tmp_path, text)))


def test_what_only_the_file_system_tells(tmp_path: Path) -> None:
    finder = good_finder(tmp_path)
    text = finder.read_text()
    finder.write_text(text.replace("/buffer", "/storage/sub"))
    assert problems(finder) == [
        f"{finder}:3: finder.source: there is no directory {tmp_path}/storage/sub: make it, or "
        "correct the path"
    ]
    (tmp_path / "storage" / "sub").mkdir()
    assert "is inside finder.storage" in problems(finder)[0]
    finder.write_text(text.replace("Move", "Noop"))
    assert "finder.actions.standard: Noop with search.method scan" in problems(finder)[0]
    finder.write_text(f"{text}logging: {{file: {tmp_path}/gone/log}}\n")
    assert "logging.file: there is no directory" in problems(finder)[0]


def test_plugins_are_looked_up(tmp_path: Path, settings: Any) -> None:
    ingester = file(tmp_path, "ingester: {plugin: {name: site.Mine, config: {a: 1}}}")
    [line] = problems(ingester)
    assert line.startswith(f"{ingester}:1: ingester.plugin.name: ")
    settings.INGEST_PLUGINS = ["site.Mine"]
    assert "ok (ingester)" in validate(ingester)


def test_a_contradiction_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://tester:other-secret@elsewhere/test")
    [line] = problems(good_finder(tmp_path))
    assert f"{tmp_path}/finder.yaml:1: database.engine: " in line
    assert "differ (host, password)" in line
    assert "hunter2" not in line
    assert "secret" not in line


def test_json(tmp_path: Path) -> None:
    finder, bad = good_finder(tmp_path), file(tmp_path, "backfill: {}")
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("validate", str(finder), str(bad), json=True, stdout=out)
    good, wrong = json.loads(out.getvalue())
    assert good == {"file": str(finder), "component": "finder", "ok": True, "problems": []}
    assert (wrong["component"], wrong["ok"], len(wrong["problems"])) == ("backfill", False, 2)


def test_the_command_itself(tmp_path: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", "validate", *arguments],
            cwd=TOP,
            env=environment,
            capture_output=True,
            text=True,
        )

    bad = file(tmp_path, "finder: {source: 5}", "a\nb\x1b.yaml")
    done = run(str(bad))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("CommandError: 3 problems in the configuration:\n")
    assert r"a\x0ab\x1b.yaml:1: finder.source: expected a path, got 5" in done.stderr
    assert "Traceback" not in done.stderr
    assert run().returncode == 2
    good = file(tmp_path, "ingester: {plugin: {name: NullIngest}}")
    assert (run(str(good)).returncode, run(str(good)).stderr) == (0, "")
