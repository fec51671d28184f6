"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

TOP = Path(__file__).resolve().parent.parent
PAGES = sorted([TOP / "README.md", TOP / "CHANGELOG.md", *(TOP / "docs").glob("*.md")])


def test_env_example_names_every_setting() -> None:
    settings = (TOP / "endpoint_site" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'env(?:\.\w+)?\(\s*"(\w+)"', settings))
    assert "DATABASE_URL" in read
    example = (TOP / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z][A-Z_]+)=", example, flags=re.MULTILINE))
    assert named == read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    named = set(re.findall(r"manage\.py ([a-z]\w*)", page.read_text(encoding="utf-8")))
    assert named <= set(get_commands()), page


def test_readme_names_every_command_of_ours() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    ours = {name for name, app in get_commands().items() if app in ("buffer", "ingest")}
    named = set(re.findall(r"^\| `manage\.py (\w+)", readme, flags=re.MULTILINE))
    assert named == ours


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_lists_its_targets() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)[1].split())  # type: ignore[index]
    assert phony == set(re.findall(r"^([a-z]+):.*## ", makefile, flags=re.MULTILINE))
