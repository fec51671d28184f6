"""YAML files and rsync's logs with anything in them: clear errors, and nothing else is touched."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import storages
from buffer.finder import Finder
from buffer.finder_config import Finder as FinderSection
from buffer.models import File, Refusal, Storage
from ingest.management.commands.validate import check_file
from tests.buffer.conftest import cycle
from tests.hypothesis_profiles import examples
from tests.system.product import ROOT, Product
from tests.tally import Tally

SAMPLES = [
    *sorted((ROOT / "fixtures").glob("*.yaml")),
    *sorted((ROOT / "tests" / "quickstart").glob("*.yaml")),
]

#: Each is no configuration, in another way.
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "only a comment": b"# nothing\n",
    "byte-order mark": b"\xef\xbb\xbf",
    "binary": bytes(range(256)) * 8,
    "UTF-16, odd": "finder: {}".encode("utf-16")[:-1],
    "a list": b"- finder\n",
    "a text": b"finder",
    "two documents": b"finder: {}\n---\nfinder: {}\n",
    "a tag that runs": b"finder: !!python/object/apply:os.system ['touch harm']\n",
    "aliases that explode": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % ((98 + n, 98 + n) + (97 + n,) * 9)
        for n in range(12)
    ),
    "an alias of itself": b"finder: &f {source: *f}\n",
    "duplicate keys": b"finder: {source: /a, source: /b}\n",
    "a merge key": b"base: &b {x: 1}\nfinder: {<<: *b}\n",
    "deep": b"finder: " + b"[" * 5000,
    "large": b"finder: {source: " + b"x" * 2_000_000 + b"}",
    "a bad indent": b"finder:\n  source: /a\n storage: /b\n",
    "a tab": b"finder:\n\tsource: /a\n",
    "keys of all kinds": b"finder: {1: 2, null: 3, 2020-01-01: 4, [a]: 5, true: 6}\n",
    "numbers of all kinds": b"finder: {pause: .inf, source: 0x10, storage: 1e999, fsync: .nan}\n",
    "control characters": b'finder: {source: "/a\\0b\\x1b[31m", storage: /b}\n',
    "wrong types": b"finder: {source: [1], storage: {a: 1}, actions: 3, search: x}\n",
    "a secret": b"database: {engine: 'postgres://u:hunter2@h/x', nope: 'hunter2'}\nfinder: {}\n",
}


@pytest.fixture
def broken(tmp_path: Path) -> list[Path]:
    """Files that are no configuration."""
    paths = []
    for number, content in enumerate(BROKEN.values()):
        path = tmp_path / f"broken-{number:02}.yaml"
        path.write_bytes(content)
        paths.append(path)
    directory = tmp_path / "directory.yaml"
    directory.mkdir()
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop.name)
    return [*paths, directory, fifo, loop, tmp_path / "gone.yaml", Path("/dev/zero")]


def test_validate_tells_every_broken_file(
    product_on_sqlite: Product, broken: list[Path], tally: Tally
) -> None:
    product = product_on_sqlite
    done = product.run("validate", *broken)
    error = done.refused()
    assert "hunter2" not in error
    for path in broken:
        assert str(path) in error, f"nothing is said of {path}"
    assert product.is_untouched()
    assert not (ROOT / "harm").exists()
    tally("YAML files that are none", len(broken))


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", ["runfinder", "runingester", "backfill"])
def test_each_command_refuses_broken_files(
    product_on_sqlite: Product, broken: list[Path], command: str, tally: Tally
) -> None:
    for path in broken:
        assert "hunter2" not in product_on_sqlite.run(command, path, within_s=30).refused(str(path))
    assert product_on_sqlite.is_untouched()
    tally("YAML files that are none", len(broken))


def mutated(text: bytes, dice: random.Random) -> bytes:
    """Change a file in a few places, as a slip of the keyboard or a bad disk would."""
    content = bytearray(text)
    for _ in range(dice.randint(1, 4)):
        begin = dice.randrange(len(content) + 1)
        end = min(len(content), begin + dice.choice([0, 1, 1, 2, 8, 40]))
        new: Callable[[], bytes] = dice.choice(_MUTATIONS)(dice, bytes(content))
        content[begin:end] = new  # type: ignore[assignment]
    return bytes(content)


_PIECES = (
    b": ", b"- ", b"\n", b"\n  ", b"\t", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"!!int ", b"!x ",
    b"'", b'"', b"|", b">", b"#", b"%", b"@", b"`", b"\\", b"null", b"true", b"1", b"-1", b"1e9",
    b".nan", b"2020-12-31", b"0o7", b"~", b"<<: ", b"---\n", b"...\n", b"\x00", b"\xff", b"\x85",
    "\u2028".encode(), "\u202e".encode(), "\U0001f52d".encode(),
)  # fmt: skip
_MUTATIONS = (
    lambda dice, _: dice.choice(_PIECES),
    lambda dice, _: dice.choice(_PIECES),
    lambda dice, _: dice.randbytes(dice.randint(0, 4)),
    # A piece of the file itself, elsewhere: duplicate keys, lists in the wrong place.
    lambda dice, text: text[(cut := dice.randrange(len(text))) : cut + dice.randint(1, 60)],
)


@settings(max_examples=examples(100, nightly=10_000))
@given(sample=st.sampled_from(SAMPLES), dice=st.randoms(use_true_random=False))
def test_any_slip_in_a_file_ends_in_clear_errors(
    tmp_path: Path, sample: Path, dice: random.Random
) -> None:
    path = tmp_path / "mutated.yaml"
    path.write_bytes(mutated(sample.read_bytes(), dice))
    before = sorted(tmp_path.rglob("*"))
    _, problems = check_file(str(path))
    for line in problems:
        assert line.isprintable(), ascii(line)
        assert ":password@" not in line
        assert "Input should" not in line, "an error of the library's, not of ours"
        assert len(line) < 2000
    assert sorted(tmp_path.rglob("*")) == before


#: What lies in storage, and what lies beside it: the second must never be known.
INSIDE = ["a.fits", "d/b.fits", "two words.fits", "x => y", "b\\#101.fits", "n\u00e4chtlich.fits"]
OUTSIDE = "secret.fits"

_NAMES = st.sampled_from(
    [*(os.fsencode(name) for name in INSIDE), b"gone.fits", b"b\\#134\\#101.fits", b"d", b"", b".",
     b"..", b"../secret.fits", b"/etc/passwd", b"d/../../secret.fits", b"link/secret.fits",
     b"d//b.fits", b"./a.fits", b".endpoint-storage", b".incoming/x.part",
     b"a.fits => ../secret.fits", b"../secret.fits => a.fits", b"n\\#303\\#244chtlich.fits",
     b"\\#056\\#056/secret.fits", b"\\#000", b"\\#777", b"\\#12", b"a.fits\\", b"x" * 300,
     b"x/" * 1500]
) | st.binary(max_size=30)  # fmt: skip
_ITEMS = st.sampled_from(
    [b">f+++++++++ ", b"<f+++++++++ ", b">f.st...... ", b"hf+++++++++ ", b".f...p..... ",
     b"cd+++++++++ ",
     b"cL+++++++++ ", b"*deleting   ", b">f++++++++++++ ", b">f ", b"", b"sent 1 bytes  "]
)  # fmt: skip
_PREFIXES = st.sampled_from(
    [
        b"",
        b"2026/11/25 01:02:03 [77] ",
        b"2026/11/25 01:02:03 [77] 2026/11/25 01:02:03 [77] ",
        b"[77] ",
    ]
)
_LINES = st.builds(lambda *parts: b"".join(parts), _PREFIXES, _ITEMS, _NAMES)
_LOGS = st.builds(
    lambda lines, end: b"\n".join(lines) + end,
    st.lists(_LINES | st.binary(max_size=60), max_size=12),
    st.sampled_from([b"\n", b"", b"\r\n", b"\n>f+++++++++ a.fi", b"\0"]),
)


class Night:
    """A directory of logs, a storage area, and something beside it."""

    def __init__(self, root: Path) -> None:
        self.root, self.storage, self.logs = root, root / "storage", root / "logs"
        self.night = self.logs / f"{datetime.now(UTC):%Y%m%d}"
        for directory in (self.storage / "d", self.night):
            directory.mkdir(parents=True)
        for name in INSIDE:
            (self.storage / name).write_text(f"content of {name}")
        (root / OUTSIDE).write_text("beside the storage")
        (self.storage / "link").symlink_to(root)
        self.row = storages.register("files", self.storage, fsync=False)
        self.before = self.content()

    def content(self) -> dict[str, bytes | str]:
        """Everything below the root but for the logs."""
        found: dict[str, bytes | str] = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory, name)
                if self.logs not in path.parents:
                    key = str(path.relative_to(self.root))
                    found[key] = os.readlink(path) if path.is_symlink() else path.read_bytes()
        return found

    def finder(self) -> Finder:
        section = {
            "source": str(self.logs),
            "storage": str(self.storage),
            "actions": {"standard": "Noop", "alternative": "Delete"},
            "search": {"method": "parse_rsync_logs", "delay": 0},
            "fsync": False,
        }
        return Finder(FinderSection.model_validate(section), self.row)


@settings(max_examples=examples(100, nightly=10_000))
@given(log=_LOGS)
def test_any_log_touches_nothing_outside_the_storage(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: bytes
) -> None:
    monkeypatch.setattr("buffer.finder.outages.away", lambda error: None)
    for model in (Refusal, File, Storage):
        model.objects.all().delete()
    shutil.rmtree(tmp_path / "night", ignore_errors=True)
    night = Night(tmp_path / "night")
    path = night.night / "rsync.log"
    path.write_bytes(log)
    finder = night.finder()
    for _ in range(2):
        found = cycle(finder)
        assert found.complete and not found.blocked, found.blocked
    assert night.content() == night.before
    rows = {file.path for file in File.objects.all()}
    assert rows <= set(INSIDE)
    named = {os.fsdecode(name) for name in plainly_named(log)}
    assert named <= rows, "the rest of the log is done, whatever else is in it"
    # Done, but for a last line without its end, only if nothing is looked for again.
    missing = Refusal.objects.unresolved().filter(reason="VANISHED").exists()
    assert path.with_name("rsync.log.done").exists() == (not missing and b"\n" in log)
    for refusal in Refusal.objects.all():
        assert (refusal.path + refusal.detail).isprintable()


def plainly_named(log: bytes) -> set[bytes]:
    """Those files in storage that a log names in a line of which nothing is doubtful."""
    names = {os.fsencode(name) for name in INSIDE if "\\" not in name and "=>" not in name}
    whole = log.split(b"\n")[:-1]
    return {name for name in names if b">f+++++++++ " + name in whole}
