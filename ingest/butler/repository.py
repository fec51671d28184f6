"""Make a Butler repository that is ready for raws: for a first try, the demo and tests."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lsst.daf.butler import Butler
from lsst.pipe.base import Instrument
from lsst.utils import doImportType

from .instruments import BUILTIN

__all__ = ["make_repository"]


def make_repository(
    root: str | os.PathLike[str],
    instruments: Sequence[str] = tuple(BUILTIN),
    run: str | None = None,
) -> str:
    """Make a repository and register instruments; do only what is missing.

    Parameters
    ----------
    root : `str` or `os.PathLike`
        The repository's directory.  One that is a repository already is kept.
    instruments : sequence of `str`
        Names (``HSC``, ``DECam``) or dotted names of `lsst.pipe.base.Instrument` classes.
    run : `str`, optional
        A RUN collection to register.

    Returns
    -------
    root : `str`
        Absolute path of the repository.

    Raises
    ------
    ValueError
        An instrument is none of ours and no class's name.
    """
    root = os.path.abspath(root)
    classes = [_instrument_class(name) for name in instruments]
    if not Butler.has_repo_config(root):
        Butler.makeRepo(root)
    with Butler.from_config(root, writeable=True) as butler:
        for instrument in classes:
            instrument().register(butler.registry)
        if run is not None:
            butler.collections.register(run)
    return root


def _instrument_class(name: str) -> type[Instrument]:
    if name in BUILTIN:
        return BUILTIN[name]
    if "." not in name:
        raise ValueError(
            f"unknown instrument {name!r}: expected one of {', '.join(BUILTIN)} or the dotted "
            "name of an lsst.pipe.base.Instrument class"
        )
    found: type[Instrument] = doImportType(name)
    if not issubclass(found, Instrument):
        raise ValueError(f"{name} is no lsst.pipe.base.Instrument")
    return found
