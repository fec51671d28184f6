from __future__ import annotations

import glob
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.exclusion import PatternList
from ingest import backfill_sources
from ingest.backfill_sources import Candidate, Search, Source, Walk, chunks

TREE = [
    "top.fits",
    ".hidden.fits",
    "a[1].fits",
    "2020-12-30/one.fits",
    "2020-12-31/one.fits",
    "2020-12-31/.secret",
    "2020-12-31/raw/two.fits",
    "2020-12-31/raw/two.json",
    "2020-12-31/raw/deep/er/three.fits",
    "2020-12-31/.dot/four.fits",
    ".dotted/raw/five.fits",
]


def fill(root: Path, paths: list[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("storage"), TREE)


def found(root: Path, *sources: str, exclude: list[str] | None = None) -> list[str]:
    walk = Walk(root, [Source(source) for source in sources], PatternList(exclude))
    return [c.path for c in walk.candidates() if c is not None]


def below(prefix: str) -> list[str]:
    return [path for path in TREE if path.startswith(prefix)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("top.fits", ["top.fits"]),
        ("./top.fits", ["top.fits"]),
        ("2020-12-31", below("2020-12-31/")),
        ("2020-12-31/", below("2020-12-31/")),
        ("2020-12-31/raw/two.fits", ["2020-12-31/raw/two.fits"]),
        (".", TREE),
        ("*", ["top.fits", "a[1].fits", *below("2020")]),
        ("**", ["top.fits", "a[1].fits", *below("2020")]),
        ("*.fits", ["top.fits", "a[1].fits"]),
        (".*", [".hidden.fits", ".dotted/raw/five.fits"]),
        ("*/*.fits", ["2020-12-30/one.fits", "2020-12-31/one.fits"]),
        ("2020-12-3?/one.fits", ["2020-12-30/one.fits", "2020-12-31/one.fits"]),
        ("2020-12-3[!0]/one.fits", ["2020-12-31/one.fits"]),
        ("*/raw", below("2020-12-31/raw/")),
        ("**/raw", below("2020-12-31/raw/")),
        ("**/raw/**", below("2020-12-31/raw/")),
        ("**/t*", ["top.fits", *below("2020-12-31/raw/two"), *below("2020-12-31/raw/deep")[:1]]),
        (".dotted/**/five.fits", [".dotted/raw/five.fits"]),
        ("**/five.fits", []),
        ("a[[]1].fits", ["a[1].fits"]),
        ("a[1].fits", []),
        ("~", []),
        ("2020-12-31/one.fits/x", []),
        ("2020-12-32", []),
        (f"{'x' * 300}", []),
    ],
)
def test_what_is_found(tree: Path, source: str, expected: list[str]) -> None:
    assert sorted(found(tree, source)) == sorted(expected)


PARTS = st.sampled_from(["*", "**", "raw", "2020-12-31", "*.fits", "?*", ".*", "deep", "[0-9]*"])


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(PARTS, min_size=1, max_size=5))
def test_patterns_are_those_of_glob(tree: Path, parts: list[str]) -> None:
    pattern = "/".join(parts)
    expected = set()
    for match in glob.glob(pattern, root_dir=tree, recursive=True):
        path = tree / match
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        expected |= {str(p.relative_to(tree)) for p in files}
    assert sorted(found(tree, pattern)) == sorted(expected)
    source = Source(pattern)
    assert {path for path in TREE if source.covers(path)} == expected


def test_several_sources_name_a_file_once(tree: Path) -> None:
    assert sorted(found(tree, "2020-12-31/raw", "**/*.fits", "2020-12-31")) == sorted(
        [*below("2020-12-31/"), "top.fits", "a[1].fits", "2020-12-30/one.fits"]
    )


def test_a_source_that_matches_nothing_is_named(tree: Path) -> None:
    sources = ["2020-12-31", "2020-12-31/raw", "gone", "*.fit", "2020-12-31/raw/*.fits"]
    walk = Walk(tree, [Source(source) for source in sources], PatternList([]))
    list(walk.candidates())
    assert walk.unmatched == {"gone": "", "*.fit": ""}


def test_an_empty_directory_is_matched(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    walk = Walk(tmp_path, [Source("empty"), Source("*")], PatternList([]))
    assert list(walk.candidates()) == []
    assert walk.unmatched == {}


def test_excluded_paths(tree: Path) -> None:
    walk = Walk(tree, [Source("2020-12-31")], PatternList([r"\.json$", "/deep/"]))
    paths = [c.path for c in walk.candidates() if c is not None]
    assert sorted(paths) == sorted(
        path for path in below("2020-12-31") if "json" not in path and "deep" not in path
    )
    assert walk.excluded == 2
    assert walk.unmatched == {}


def test_what_is_not_ours_to_record_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, ["a.fits", ".endpoint-storage", ".incoming/x.part", "sub/.incoming/b.fits"])
    fill(tmp_path, ["c.part", ".c.fits.AbC123", "sub/.~tmp~/d.fits", "sub/e.tmp"])
    expected = ["a.fits", "sub/.incoming/b.fits"]
    assert sorted(found(tmp_path, ".")) == expected
    assert found(tmp_path, ".incoming", ".incoming/*", ".endpoint-storage", "c.part") == []
    assert found(tmp_path, "sub/.~tmp~", "sub/.~tmp~/*") == []


def test_links_are_named_and_never_followed(tmp_path: Path) -> None:
    root = fill(tmp_path / "storage", ["real/a.fits"])
    outside = fill(tmp_path / "outside", ["secret.fits"])
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to("real")
    (root / "loop").symlink_to(".")
    (root / "real/link.fits").symlink_to(outside / "secret.fits")
    # They are named, for whoever opens them to refuse.
    assert sorted(found(root, ".")) == ["in", "loop", "out", "real/a.fits", "real/link.fits"]
    assert found(root, "out/*", "out/secret.fits", "in/a.fits", "**/secret.fits") == []
    assert found(root, "*/a.fits") == ["real/a.fits"]
    search = Search(root, Source("in/a.fits"))
    list(search.candidates())
    assert search.hint == "in is a symbolic link, and those are not followed"


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "real", ["2020/a.fits"])
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link", "2020") == ["2020/a.fits"]


def test_a_root_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        found(tmp_path / "gone", ".")


def test_a_directory_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, ["a/one", "b/two"])
    scandir = os.scandir
    forbidden = (tmp_path / "a").stat().st_ino

    def refuse(descriptor: int) -> object:
        if os.fstat(descriptor).st_ino == forbidden:
            raise PermissionError(13, "Permission denied")
        return scandir(descriptor)

    monkeypatch.setattr(backfill_sources.os, "scandir", refuse)
    assert sorted(found(tmp_path, ".")) == ["a", "b/two"]


def test_chunks_are_bounded() -> None:
    def sizes(candidates: list[Candidate | None]) -> list[int]:
        return [len(chunk) for chunk in chunks(candidates) if chunk is not None]

    small = [Candidate(f"d/{n}", 1000) for n in range(450)]
    assert sizes(list(small)) == [200, 200, 50]
    huge = Candidate("huge", 10**12)
    assert sizes([*small[:3], huge, *small[:2]]) == [3, 1, 2]
    long = [Candidate("ä" * 1100, 0)] * 40
    assert max(sizes(list(long))) * 2216 < backfill_sources.CHUNK_NAME_BYTES
    assert list(chunks([None, small[0], None])) == [None, None, [small[0]]]


def test_memory_is_flat(tmp_path: Path) -> None:
    for number in range(20_000):
        os.close(os.open(tmp_path / f"{number}", os.O_CREAT | os.O_WRONLY))
    walk = Walk(tmp_path, [Source("*"), Source(".")], PatternList([]))
    tracemalloc.start()
    try:
        count = sum(len(chunk) for chunk in chunks(walk.candidates()) if chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 500_000
