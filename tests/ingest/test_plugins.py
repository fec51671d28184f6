"""The plugin contract, the registry of plugins, and the example of the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ingest import plugins
from ingest.attempt import attempt
from ingest.plugin_host import PluginHost
from ingest.plugins.base import Outcome, Plugin, PluginConfigError, SupportsContains
from ingest.plugins.null import NullIngest
from ingest.verdicts import VerdictKind

ROOT = Path(plugins.__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "plugins.md"


def test_outcomes() -> None:
    assert Outcome.success("/a") == Outcome("/a", True, "", False)
    assert Outcome.success("/a", "already ingested").message == "already ingested"
    assert Outcome.failure("/a", "busy", transient=True) == Outcome("/a", False, "busy", True)
    assert not Outcome.failure("/a", "broken").transient


def test_null_ingest_takes_everything() -> None:
    plugin = NullIngest({"anything": 1})
    assert list(plugin.ingest(["/a", "/b"])) == [Outcome.success("/a"), Outcome.success("/b")]
    assert plugin.version() == "1.0.0"
    assert plugin.in_order
    assert not isinstance(plugin, SupportsContains)


def test_builtin_names_and_paths_are_always_allowed() -> None:
    for name, dotted in plugins.BUILTIN.items():
        assert plugins.resolve(name, []) == dotted
        assert plugins.resolve(dotted, []) == dotted


def test_other_paths_are_allowed_by_settings() -> None:
    assert plugins.resolve("a.b.C", ["a.b.C"]) == "a.b.C"
    with pytest.raises(PluginConfigError, match=r"ingester.plugin.name: 'a.b.D'.*INGEST_PLUGINS"):
        plugins.resolve("a.b.D", ["a.b.C"])


@pytest.mark.parametrize("name", ["", "Gen2Ingester", "nullingest"])
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(PluginConfigError, match="expected one of NullIngest, Gen2Ingest, Gen3"):
        plugins.resolve(name, [])


def test_load() -> None:
    assert plugins.load("ingest.plugins.null.NullIngest") is NullIngest


@pytest.mark.parametrize(
    ("dotted", "text"),
    [
        ("NoDots", "expected a dotted path"),
        ("nowhere.to.be.Found", "No module named 'nowhere'"),
        ("ingest.plugins.null.Nothing", "found nothing of that name"),
        ("ingest.plugins.BUILTIN", "found a dict of that name"),
        ("ingest.plugins.base.Outcome", "no method version and no method ingest"),
    ],
)
def test_what_cannot_be_loaded(dotted: str, text: str) -> None:
    with pytest.raises(PluginConfigError, match=text) as caught:
        plugins.load(dotted)
    assert str(caught.value).startswith("ingester.plugin.name: ")


def test_a_module_that_breaks_names_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginConfigError, match="ZeroDivisionError: division by zero"):
        plugins.load("broken_plugin.Plugin")


def test_the_contract_needs_neither_django_nor_lsst() -> None:
    program = (
        "import sys, ingest.host_child, ingest.plugins.null, ingest.plugins.gen2\n"
        "bad = {name.partition('.')[0] for name in sys.modules} & {'django', 'lsst', 'astropy'}\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_a_plugin_must_have_the_methods() -> None:
    class Incomplete(Plugin):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Incomplete({})  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("number", "version", "reason"), [(0, "1.0", "No such file"), (1, "1.1", "not in storage")]
)
def test_the_documented_examples_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, version: str, reason: str
) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]
    allowed = re.search(r"^INGEST_PLUGINS=(\S+)$", text, re.MULTILINE)
    assert allowed
    module, _, _ = allowed[1].rpartition(".")
    code = tmp_path / "code"
    code.mkdir()
    (code / f"{module}.py").write_text(example)
    monkeypatch.syspath_prepend(str(code))
    copies = tmp_path / "copies"
    copies.mkdir()
    files = [tmp_path / "one.fits", tmp_path / "two.fits"]
    for file in files:
        file.write_text(file.name)
    paths = [str(file) for file in files]
    paths.insert(1, str(tmp_path / "missing.fits"))

    host = PluginHost(plugins.resolve(allowed[1], [allowed[1]]), {"directory": str(copies)})
    verdicts = list(attempt(host, paths, timeout_s=30.0))
    host.close()

    assert [v.kind for v in verdicts] == [
        VerdictKind.SUCCESS,
        VerdictKind.FAILURE,
        VerdictKind.SUCCESS,
    ]
    assert reason in verdicts[1].message
    assert host.in_order
    assert host.version == version
    assert sorted(file.name for file in copies.iterdir()) == ["one.fits", "two.fits"]
