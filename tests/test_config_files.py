"""Configuration files that ship with the project, those of the older manual, and the key tables."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from buffer.config import ComponentFile, load
from buffer.finder_config import FinderFile
from ingest.backfill_config import BackfillFile
from ingest.config import IngesterFile
from ingest.statuses import DEFAULT_WANTED, Status
from tests.conftest import SHARED
from tests.yaml_files import write

TOP = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("finder.yaml", FinderFile),
        ("ingester-gen3.yaml", IngesterFile),
        ("ingester-gen2.yaml", IngesterFile),
        ("ingester-null.yaml", IngesterFile),
        ("backfill.yaml", BackfillFile),
    ],
)
def test_sample_files(file: str, model: type[ComponentFile]) -> None:
    loaded = load(TOP / "fixtures" / file, model)
    assert loaded.database.engine is not None


def test_every_sample_file_is_loaded_by_a_test() -> None:
    names = {path.name for path in (TOP / "fixtures").glob("*.yaml")}
    text = Path(__file__).read_text(encoding="utf-8")
    assert not [name for name in names if name not in text]


OLDER = {
    "finder": FinderFile,
    "ingester": IngesterFile,
    "ingester-rerun": IngesterFile,
    "backfill": BackfillFile,
}


def manual_blocks(text: str) -> list[str]:
    """Extract the YAML blocks of a reStructuredText file."""
    found = []
    for match in re.finditer(r"\.\. code-block:: yaml\n\n", text, re.IGNORECASE):
        lines = text[match.end() :].split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        body = []
        for line in lines:
            if line.strip() and len(line) - len(line.lstrip()) < indent:
                break
            body.append(line[indent:])
        found.append("\n".join(body).strip("\n") + "\n")
    return found


def test_files_of_the_older_manual_are_word_for_word() -> None:
    manual = SHARED / "quickstart.rst"
    if not manual.exists():
        pytest.skip("the older system's manual is not beside the project")
    copies = [
        (TOP / "tests" / "quickstart" / f"{name}.yaml").read_text(encoding="utf-8")
        for name in OLDER
    ]
    assert manual_blocks(manual.read_text(encoding="utf-8")) == copies


@pytest.mark.parametrize("name", OLDER)
def test_files_of_the_older_manual_load_unchanged(name: str, tmp_path: Path) -> None:
    text = (TOP / "tests" / "quickstart" / f"{name}.yaml").read_text(encoding="utf-8")
    adapted = text.replace("/data/", f"{tmp_path}/").replace(
        "tester:password@localhost:5432", "me:other@db.example:5433"
    )
    for content in (text, adapted):
        loaded = load(write(tmp_path, content), OLDER[name])
        assert loaded.database.file_table == "files"
        assert loaded.database.engine is not None
        if isinstance(loaded, IngesterFile):
            assert loaded.name == "gen2_file_events"
            rerun = name == "ingester-rerun"
            assert loaded.ingester.file_status == (
                [Status.RERUN] if rerun else list(DEFAULT_WANTED)
            )
            assert loaded.ingester.daemon is not rerun
            assert loaded.ingester.plugin.config["butler"]["root"].endswith("/gen2repo")
        if isinstance(loaded, BackfillFile):
            assert loaded.backfill.sources == ["2020-12-31"]


def test_the_note_of_the_older_manual(tmp_path: Path) -> None:
    """Its snippet has neither a "file" nor the directive's second colon."""
    text = "database:\n  tablenames:\n    schema: dbbbm\n    table: files\n"
    null = "ingester:\n  plugin:\n    name: NullIngest\n"
    loaded = load(write(tmp_path, text + null), IngesterFile)
    assert (loaded.database.file_table, loaded.database.schemas) == ("files", ["dbbbm"])


def test_the_documentation_has_every_key_with_its_default() -> None:
    script = runpy.run_path(str(TOP / "docs" / "update_configuration.py"))
    page = (TOP / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert script["render"](page) == page, "run: python docs/update_configuration.py"
    for name in script["SECTIONS"]:
        assert f"<!-- keys of {name} -->" in page
    assert "| `ingester.batch_size` | an integer of 1 or more | 10 |" in page
    assert "| `finder.search.delay` | a number of seconds, 0 or more, or null | 60 for" in page
