"""Plugins: the built-in ones by name, anybody else's by a dotted path that settings allow."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

from ingest.plugins.base import Outcome, Plugin, PluginConfigError, SupportsContains

__all__ = [
    "BUILTIN",
    "Outcome",
    "Plugin",
    "PluginConfigError",
    "SupportsContains",
    "load",
    "resolve",
]

#: Built-in plugins; dotted paths, so that naming one imports none of the others.
BUILTIN: dict[str, str] = {
    "NullIngest": "ingest.plugins.null.NullIngest",
    "Gen2Ingest": "ingest.plugins.gen2.Gen2Ingest",
    "Gen3Ingest": "ingest.plugins.gen3.Gen3Ingest",
}


def resolve(name: str, allowed: Collection[str]) -> str:
    """Return the dotted path of the plugin that a configuration file names.

    Parameters
    ----------
    name : str
        ``ingester.plugin.name``: a built-in name or a dotted path.
    allowed : Collection[str]
        Dotted paths that may be loaded besides the built-in ones
        (``settings.INGEST_PLUGINS``).

    Returns
    -------
    str
        The dotted path of the plugin's class.

    Raises
    ------
    PluginConfigError
        If the name is neither built in nor allowed.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    if name in BUILTIN.values() or name in allowed:
        return name
    if "." in name:
        raise PluginConfigError(
            f"ingester.plugin.name: {name!r} is not allowed; a plugin that does not come with "
            f"this program has to be named in the environment variable INGEST_PLUGINS "
            f"(comma-separated dotted paths) on every host that runs workers"
        )
    raise PluginConfigError(
        f"ingester.plugin.name: expected one of {', '.join(BUILTIN)} or a dotted path named in "
        f"INGEST_PLUGINS, got {name!r}"
    )


def load(dotted: str) -> type[Any]:
    """Import a plugin's class.

    Parameters
    ----------
    dotted : str
        Dotted path of the class, ``package.module.Class``.

    Returns
    -------
    type
        The class; it need not subclass `Plugin`, but has ``version`` and ``ingest``.

    Raises
    ------
    PluginConfigError
        If it cannot be imported, with the cause, or is not a plugin class.
    """
    module_name, _, class_name = dotted.rpartition(".")
    if not module_name:
        raise PluginConfigError(
            f"ingester.plugin.name: expected a dotted path (package.module.Class), got {dotted!r}"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PluginConfigError(
            f"ingester.plugin.name: {dotted} cannot be imported: {type(error).__name__}: {error}; "
            f"install it for the Python that runs this program, or put it on PYTHONPATH"
        ) from error
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        found = "nothing" if cls is None else f"a {type(cls).__name__}"
        raise PluginConfigError(
            f"ingester.plugin.name: expected {module_name} to define a class {class_name}, "
            f"found {found} of that name"
        )
    missing = [m for m in ("version", "ingest") if not callable(getattr(cls, m, None))]
    if missing:
        raise PluginConfigError(
            f"ingester.plugin.name: {dotted} is not a plugin: it has no method "
            f"{' and no method '.join(missing)} (see docs/plugins.md)"
        )
    return cls
