from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import CommandParser

from buffer.commands import ComponentCommand, configuration_errors
from buffer.config import ConfigError
from buffer.finder_config import FinderFile
from buffer.finder_paths import check_paths

pytestmark = pytest.mark.django_db


class Command(ComponentCommand[FinderFile]):
    model = FinderFile
    seen: Any = None

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true")

    def check_config(self, config: FinderFile) -> list[str]:
        return check_paths(config)

    def run_component(self, config: FinderFile, **options: Any) -> None:
        self.seen = (config, options["once"])
        if config.finder.pause == 7:
            raise ConfigError("finder.pause: found at work")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = kept
    root.setLevel(level)


def write(tmp_path: Path, more: str = "", source: str = "buffer") -> str:
    for name in ("buffer", "storage"):
        (tmp_path / name).mkdir(exist_ok=True)
    path = tmp_path / "finder.yaml"
    path.write_text(
        f"finder:\n  source: {tmp_path}/{source}\n  storage: {tmp_path}/storage\n"
        f"  actions: {{standard: Move}}\n  search: {{method: scan}}\n{more}"
    )
    return str(path)


def failure(path: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command(Command(), path, stdout=io.StringIO())
    assert caught.value.returncode == 2
    assert caught.value.__suppress_context__
    return str(caught.value)


def test_a_component_gets_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command()
    call_command(command, write(tmp_path, "logging: {level: debug}\n"), once=True)
    config, once = command.seen
    assert config.finder.source == tmp_path / "buffer"
    assert once is True
    logging.getLogger("a").debug("heard")
    assert "a:DEBUG:heard" in capsys.readouterr().err


def test_a_bad_file_ends_with_status_2(tmp_path: Path) -> None:
    assert "finder.paus: unknown key" in failure(write(tmp_path, "  paus: 1\n"))


def test_directories_and_log_are_checked_before_anything_is_touched(tmp_path: Path) -> None:
    text = failure(write(tmp_path, f"logging: {{file: {tmp_path}/gone/log}}\n", source="none"))
    first, second, third = text.split("\n")
    assert first == "2 problems in the configuration:"
    assert second.startswith(f"{tmp_path}/finder.yaml:6: logging.file: there is no directory")
    assert third.startswith(f"{tmp_path}/finder.yaml:2: finder.source: there is no directory")


def test_a_database_that_contradicts_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://tester:hunter2@h/d")
    text = failure(write(tmp_path, "database: {engine: 'sqlite:////a.db'}\n"))
    assert "finder.yaml:6: database.engine: sqlite:////a.db and DATABASE_URL" in text
    assert "hunter2" not in text


def test_an_error_found_at_work_ends_with_status_2_too(tmp_path: Path) -> None:
    assert failure(write(tmp_path, "  pause: 7\n")) == "finder.pause: found at work"


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), configuration_errors():
        raise ZeroDivisionError
