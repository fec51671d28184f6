"""Twenty arrivals of every kind, a finder in a process that can be killed, and what must hold."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from buffer import opening
from buffer.hashing import checksums
from buffer.models import File, Refusal, RefusalReason, Storage
from buffer.names import INCOMING_DIR, MARKER_NAME
from tests.buffer.conftest import Ground, cycle
from tests.faults.dying import in_child
from tests.tools import need_root

#: How a file gets its place: by a link of it, by a rename, since the kernel lets nobody link files
#: of others that he may not write, or by a copy, since the storage is on another file system.
WAYS: Final = ("link", "rename", "copy")

#: What is tracked before the fault, by name below the storage.
STORED: Final = {
    "old/same": b"same",
    "old/moved": b"content that arrives again in another directory",
    "old/conflict": b"older",
    "old/damaged": b"whole",
    "old/missing": b"missing",
}
#: Those of them that somebody spoils.
SPOILED: Final = {"old/damaged", "old/missing"}
#: What is in storage and not tracked.
UNTRACKED: Final = {"untracked/same": b"untracked", "untracked/other": b"not ours"}
#: New files of many sizes and depths, among them one with its sidecar.
NEW: Final = {
    "empty": b"",
    "byte": b"1",
    "a/hundred": b"h" * 100,
    "a/b/page": bytes(range(256)) * 16,
    "a/b/c/d/deep": b"deep" * 1000,
    "a/odd": b"odd" * 23_333,
    "2026-11-25/block": b"B" * ((1 << 20) + 1),
    "2026-11-25/large": os.urandom(1 << 10) * 3 * (1 << 10),
    "2026-11-25/exp1.json": b'{"sidecar": true}',
    "2026-11-25/exp1.fits": b"SIMPLE  =                    T" * 96,
    "2026-11-26/name with spaces and \N{SNOWMAN}": b"name",
    "2026-11-26/" + "n" * 250: b"long name",
}
TWINS: Final = {"d/twin": b"twin", "f/twin": b"twin"}
#: Of what is in storage: duplicates, one of a damaged and one of a missing copy; other contents.
KNOWN: Final = {
    "old/same": STORED["old/same"],
    "elsewhere/moved": STORED["old/moved"],
    "old/conflict": b"newer",
    "old/damaged": STORED["old/damaged"],
    "old/missing": STORED["old/missing"],
    "untracked/other": b"ours",
}
ARRIVALS: Final = {**NEW, **TWINS, **KNOWN}
assert len(ARRIVALS) == 20
#: One that is adopted rather than placed, besides.
ADOPTED: Final = {"untracked/same": UNTRACKED["untracked/same"]}
CONFLICTS: Final = {"old/conflict", "untracked/other"}

_STRANGER: Final = 54_321


class Landing(Ground):
    """A buffer and a storage area, and a finder that is run in processes of its own.

    Parameters
    ----------
    here
        Where the buffer is made.
    root
        The storage area's root.
    way
        One of `WAYS`; for "copy", `root` is on another file system.
    """

    def __init__(self, here: Path, root: Path, way: str) -> None:
        super().__init__(here, root)
        self.way = way
        self.landed: dict[str, bytes] = {}
        #: Those of which nobody has synced the content; those of them that a power cut took before
        #: the finder could; and those besides whose content only storage has. Not ours to answer
        #: for, but they must not harm others.
        self.unsynced: set[str] = set()
        self.lost: set[str] = set()
        self.torn: set[str] = set()
        #: Those whose content the finder had recorded when the fault came.
        self.read_before: set[str] = set()

    def prepare(self) -> None:
        """Take in what is tracked before the fault, and spoil some of it."""
        for name, content in STORED.items():
            self.put(name, content)
        assert cycle(self.finder()).done == len(STORED)
        (self.root / "old/damaged").write_bytes(b"whxle")
        (self.root / "old/missing").unlink()
        for name, content in UNTRACKED.items():
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

    def land(self, arrivals: dict[str, bytes]) -> None:
        """Let files arrive."""
        self.landed |= arrivals
        for name, content in arrivals.items():
            path = self.put(name, content)
            if self.way == "rename":
                need_root("make files of another user")
                os.chown(path, _STRANGER, _STRANGER)

    def run(self, fault: Callable[[], None] | None = None, **options: object) -> int:
        """Run a finder in a child process until it has nothing left to do.

        Parameters
        ----------
        fault
            Called in the child before it begins.

        Returns
        -------
        status : `int`
            Its exit status; minus the number of the signal that killed it.
        """

        def work() -> None:
            if self.way == "rename":
                _give_up_rights_on_files_of_others()
            # So that the number of a call is the same in every run.
            opening.THREADS = 1  # type: ignore[misc]
            if fault is not None:
                fault()
            finder = self.finder(**options)
            while not (found := cycle(finder)).quiet:
                assert not found.blocked, found.blocked

        return in_child(work)

    def clear(self) -> None:
        """Forget all rows."""
        Refusal.objects.all().delete()
        File.objects.all().delete()
        Storage.objects.all().delete()

    # What must hold

    def check_after_fault(self, *, healed: bool = False) -> list[str]:
        """Tell what is lost at the moment: nothing may be (I1, I2, I3)."""
        wrong = []
        everywhere = {*self._contents(self.source), *self._contents(self.root)}
        missing = {name for name, content in self.landed.items() if content not in everywhere}
        if not healed:
            self.read_before = {file.path for file in File.objects.intents()}
            # Nobody can tell whose a copy without an intent is.
            named = everywhere - {*self._contents(self.root / INCOMING_DIR)}
            named |= {*self._contents(self.source)} | {*self._tracked_contents()}
            unnamed = {
                name for name in self.unsynced - self.read_before if self.landed[name] not in named
            }
            self.lost |= (missing & self.unsynced) | unnamed
            self.torn |= self.lost | {name for name in self.unsynced if self._is_torn(name)}
        for name in sorted(missing - self.lost):
            wrong.append(f"I1: {name} is neither in the buffer nor in storage")
        for name, content in self._kept().items():
            if self._content(name) != content:
                wrong.append(f"I3: {name} in storage has changed")
        stored = {file.path: file for file in File.objects.stored()}
        for name, file in stored.items():
            if name not in SPOILED and not self._is_as_recorded(file):
                wrong.append(f"I2: {name} is marked stored, but is not as recorded")
        if "2026-11-25/exp1.fits" in stored and not {"2026-11-25/exp1.json"} <= {
            *stored,
            *self.torn,
        }:
            wrong.append("a file is stored before its sidecar")
        return wrong

    def check_healed(self) -> None:
        """Check that all that arrived is dealt with, and nothing is left over."""
        for name in self.read_before & self.torn:
            assert Refusal.objects.filter(path=name).exists(), f"I8: nobody is told of {name}"
        wrong = self.check_after_fault(healed=True)
        assert not wrong, "; ".join(wrong)
        rows = {file.path: file for file in File.objects.all()}
        for name, file in rows.items():
            beyond_repair = name in SPOILED & self.torn
            assert beyond_repair or self._is_as_recorded(file), f"I2: {file}"
        unknown = self.untracked() - {"untracked/other"}
        assert not unknown, f"I2: {unknown} in storage have no rows"
        assert not File.objects.intents().exists()
        assert not File.objects.unreleased().exists()
        assert not [name for name in self.incoming() if name.endswith(".part")]
        left = {str(path.relative_to(self.source)) for path in _files(self.source)}
        undecided = CONFLICTS & set(self.landed) - self.torn - self._kept_as_lost()
        assert left - self.torn == undecided, (
            f"not released: {left}, {list(Refusal.objects.values())}"
        )
        refusals = Refusal.objects.unresolved().exclude(path__in=self.torn)
        assert {row.path: row.reason for row in refusals} == dict.fromkeys(
            undecided, RefusalReason.CONFLICT
        )
        vanished = Refusal.objects.filter(reason=RefusalReason.VANISHED)
        assert not vanished.exclude(path__in=self.torn).exists()
        if not {*TWINS} & self.torn:
            assert len({*TWINS} & set(rows)) == ("d/twin" in self.landed)
        for name in {*NEW, *ADOPTED} & set(self.landed) - self.torn:
            assert name in rows, f"{name} is not tracked"

    def untracked(self) -> set[str]:
        """Files in storage that have no row."""
        there = {
            str(path.relative_to(self.root))
            for path in _files(self.root)
            if INCOMING_DIR not in path.parts and path.name != MARKER_NAME
        }
        return there - {file.path for file in File.objects.all()}

    def _kept(self) -> dict[str, bytes]:
        sound = ("old/same", "old/moved", "old/conflict")
        return {**{name: STORED[name] for name in sound}, **UNTRACKED} if self._prepared else {}

    @property
    def _prepared(self) -> bool:
        return (self.root / "untracked").exists()

    def _kept_as_lost(self) -> set[str]:
        """Those in conflict whose name the cut took from the buffer, so that a copy is the last."""
        lost = [path for path in self.incoming() if path.startswith("lost-")]
        contents = {(self.root / INCOMING_DIR / path).read_bytes(): path for path in lost}
        kept = {
            name
            for name in CONFLICTS & self.unsynced & self.read_before - self.torn
            if not (self.source / name).exists() and self.landed[name] in contents
        }
        for name in kept:
            told = Refusal.objects.get(path=name, reason=RefusalReason.CONFLICT).detail
            assert contents[self.landed[name]] in told, f"I8: nobody is told where {name} is"
        return kept

    def _is_torn(self, name: str) -> bool:
        path = self.source / name
        return path.is_file() and path.read_bytes() != self.landed[name]

    def _content(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def _contents(self, root: Path) -> list[bytes]:
        return [path.read_bytes() for path in _files(root)]

    def _tracked_contents(self) -> list[bytes]:
        paths = [self.root / file.path for file in File.objects.stored()]
        return [path.read_bytes() for path in paths if path.is_file()]

    def _is_as_recorded(self, file: File) -> bool:
        try:
            with open(self.root / file.path, "rb") as stored:
                digest = checksums(stored.fileno(), [file.checksum_algorithm])
        except FileNotFoundError:
            return False
        return digest[file.checksum_algorithm] == file.checksum


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def _give_up_rights_on_files_of_others() -> None:
    """Drop root's rights to link and write files of others, so that the kernel refuses links."""
    drop = 1 << 1 | 1 << 3  # CAP_DAC_OVERRIDE, CAP_FOWNER
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for index in range(3):
        sets[index] &= ~drop
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
