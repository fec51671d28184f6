"""Names of sidecars on the collision desk: ``X.json`` describes ``X.fits`` and all other ``X.*``.

"Keep both" gives an arrival a new name, and its sidecar none: that is a file with a row, perhaps a
conflict, and a decision of its own, and may be stored already, where nothing is renamed. So the
desk says what is to be done for both to go on belonging together, and proposes their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from buffer.models import Choice, Decision, File, Refusal, RefusalReason
from buffer.models.refusals import RefusalQuerySet
from buffer.names import SIDECAR, escape, stems
from buffer.shown import unescape


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The sidecar of an arrival that collides.

    Parameters
    ----------
    name, new_name : `str`
        Its name, and the one under which it describes the arrival if both are kept.
    conflict : `Refusal` or `None`
        Its own conflict, if that stands; else it is stored.
    """

    name: str
    new_name: str
    conflict: Refusal | None


def proposed_name(refusal: Refusal) -> str:
    """Propose a name for an arrival that is to be kept beside the stored file."""
    relpath, name = _place(refusal)
    if name.endswith(SIDECAR):
        stem = name.removesuffix(SIDECAR)
        for described, new_name in _renamed(refusal, relpath, stem):
            rest = described.removeprefix(stem)
            if new_name.endswith(rest):
                return new_name.removesuffix(rest) + SIDECAR
    return _proposed(name, refusal.checksum)


def sidecar_of(refusal: Refusal) -> Sidecar | None:
    """Look for the sidecar of an arrival, in the order of `buffer.discovery`."""
    relpath, name = _place(refusal)
    if name.endswith(SIDECAR):
        return None
    new_name = proposed_name(refusal)
    for stem in stems(name):
        sidecar = f"{stem}{SIDECAR}"
        conflict = _conflicts(refusal).filter(path=escape(_path(relpath, sidecar))).first()
        stored = File.objects.stored().filter(
            storage=refusal.storage, relpath=relpath, filename=sidecar
        )
        if conflict is not None or stored.exists():
            new_stem = new_name.removesuffix(name.removeprefix(stem))
            return Sidecar(sidecar, new_stem + SIDECAR, conflict)
    return None


def _renamed(refusal: Refusal, relpath: str, stem: str) -> Iterator[tuple[str, str]]:
    """Give names of arrivals that a sidecar describes, old and new: those decided upon first."""
    beginning = escape(_path(relpath, f"{stem}."))
    decided = Decision.objects.filter(
        refusal__storage=refusal.storage,
        refusal__source=refusal.source,
        refusal__path__startswith=beginning,
        choice=Choice.KEEP_BOTH,
        void=False,
    ).order_by("-pk")
    for decision in decided.exclude(refusal=refusal).select_related("refusal"):
        yield _place(decision.refusal)[1], decision.new_name
    undecided = _conflicts(refusal).filter(path__startswith=beginning).exclude(pk=refusal.pk)
    for other in undecided.order_by("-pk"):
        name = _place(other)[1]
        yield name, _proposed(name, other.checksum)


def _conflicts(refusal: Refusal) -> RefusalQuerySet:
    return Refusal.objects.unresolved().filter(
        storage=refusal.storage, source=refusal.source, reason=RefusalReason.CONFLICT
    )


def _proposed(name: str, checksum: str) -> str:
    stem, dot, rest = name.partition(".")
    return f"{stem}.conflict-{checksum[:8]}{dot}{rest}"


def _place(refusal: Refusal) -> tuple[str, str]:
    relpath, _, name = unescape(refusal.path).rpartition("/")
    return relpath, name


def _path(relpath: str, name: str) -> str:
    return f"{relpath}/{name}" if relpath else name
