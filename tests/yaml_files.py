"""YAML files of components, as tests write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from buffer.config import ComponentFile, ConfigError, load


def write(tmp_path: Path, text: str) -> str:
    """Write a file; give its path."""
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def problem(tmp_path: Path, text: str, model: type[ComponentFile]) -> str:
    """Load a file that has one problem; give the line that says which."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), model)
    [line] = caught.value.problems
    return line
