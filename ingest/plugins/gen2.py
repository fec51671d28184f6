"""Gen2Ingest: files into a Gen2 Butler repository, through the legacy ingest task.

The task is named by a dotted path and offers ``prepareTask`` and ``ingestFiles``, as
``lsst.pipe.tasks.ingest.IngestTask`` did up to version 24 of the LSST pipelines.  Nothing of
LSST is imported before the plugin is constructed.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import glob
import importlib.metadata
import io
import logging
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from buffer.names import escape
from ingest.host_protocol import describe
from ingest.plugins.base import Outcome, Plugin, PluginConfigError
from ingest.plugins.legacy_task import Warnings, import_task
from ingest.plugins.troubles import chain, is_machine_trouble

logger = logging.getLogger(__name__)

MODES = ("link", "copy", "skip")

#: Written into the repository's root; keeps writers of the registry apart.
LOCK_NAME = ".endpoint-ingest.lock"

#: Written when the registry was made, for registries that are no file in the root.
CREATED_NAME = ".endpoint-registry-created"

REGISTRY_NAME = "registry.sqlite3"

#: What SQLite says of the machine and its disk; the rest of its errors are about the task.
_SQLITE_TROUBLE = (
    "is locked",
    "disk I/O error",
    "disk is full",
    "unable to open database",
    "readonly database",
)

# prepareTask writes its arguments to sys.argv, which belongs to the whole process.
_argv_lock = threading.Lock()


class Gen2Ingest(Plugin):
    """Ingests files one by one with the legacy task.

    Parameters
    ----------
    config : Mapping[str, Any]
        ``butler.root`` and ``ingest.create``, ``dryrun``, ``ignoreIngested``, ``mode``, ``task``.

    Raises
    ------
    PluginConfigError
        If the task cannot be imported or refuses its arguments, if the repository's root is
        missing, or if the mode is none that leaves the file where it is.
    """

    # The task stops at the first error of a batch, so each file is a call of its own.
    in_order: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._root = str(config["butler"]["root"])
        settings = config["ingest"]
        self._mode = str(settings["mode"])
        self._dryrun = bool(settings["dryrun"])
        self._create = bool(settings["create"]) and not self._dryrun
        self._ignore_ingested = bool(settings["ignoreIngested"])
        self._check_mode()
        self._task_class = import_task(str(settings["task"]))
        self._check_root(bool(settings["create"]))
        self._skipped = False
        self._lock_warned = False
        # Made without `create`: whether the registry has to be made is only known later, under
        # the lock, because another worker may be about to make it.
        self._task = self._prepare(create=False)

    def _check_mode(self) -> None:
        if self._mode == "move":
            raise PluginConfigError(
                "plugin.config.ingest.mode: move is refused, because the file belongs to the "
                "storage area, where it must stay; use link or copy"
            )
        if self._mode not in MODES:
            raise PluginConfigError(
                f"plugin.config.ingest.mode: expected one of {', '.join(MODES)}, got {self._mode!r}"
            )

    def _check_root(self, create: bool) -> None:
        if os.path.isdir(self._root):
            return
        if os.path.lexists(self._root):
            raise PluginConfigError(
                f"plugin.config.butler.root: {escape(self._root)} is not a directory; name the "
                f"directory of a Gen2 repository"
            )
        if not create:
            raise PluginConfigError(
                f"plugin.config.butler.root: {escape(self._root)} does not exist; make the Gen2 "
                f"repository first, or set plugin.config.ingest.create: true for a new one"
            )
        if not self._dryrun:
            os.makedirs(self._root, exist_ok=True)

    def _prepare(self, create: bool) -> Any:
        errors = io.StringIO()
        with _argv_lock:
            argv = sys.argv
            try:
                with contextlib.redirect_stderr(errors):
                    task = self._task_class.prepareTask(
                        root=self._root,
                        dryrun=self._dryrun,
                        mode=self._mode,
                        create=create,
                        ignoreIngested=self._ignore_ingested,
                    )
            except SystemExit:
                # Its argument parser found something wrong and "exited".
                said = errors.getvalue().strip().splitlines()
                raise PluginConfigError(
                    f"plugin.config.butler.root: the task refuses {escape(self._root)} and its "
                    f"arguments: {said[-1] if said else 'it gave no reason'}"
                ) from None
            finally:
                sys.argv = argv
        self._watch(task)
        return task

    def _watch(self, task: Any) -> None:
        """Notice when the task skips a file, which it does in silence."""
        run_file = getattr(task, "runFile", None)
        if not callable(run_file):
            return

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = run_file(*args, **kwargs)
            self._skipped = result is None
            return result

        task.runFile = watched

    def version(self) -> str:
        """Return the version of the package that the task comes from."""
        parts = self._task_class.__module__.split(".")
        for count in range(len(parts), 0, -1):
            name = ".".join(parts[:count])
            module = sys.modules.get(name)
            for owner in (module, sys.modules.get(f"{name}.version")):
                found = getattr(owner, "__version__", None)
                if isinstance(found, str) and found:
                    return found
        for distribution in importlib.metadata.packages_distributions().get(parts[0], []):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return importlib.metadata.version(distribution)
        return "unknown"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Ingest files one by one and yield each outcome before the next is begun."""
        for path in paths:
            yield self._ingest_one(path)

    def _ingest_one(self, path: str) -> Outcome:
        # The task takes a name that it does not find for nothing to do, that is, for success.
        if problem := _why_not_there(path):
            return problem
        with Warnings() as warnings, contextlib.ExitStack() as held:
            try:
                held.enter_context(self._locked())
            except OSError as error:
                # Not the file's fault: the repository is not mounted, say.
                reason = f"the repository cannot be written: {describe(error)}"
                return Outcome.failure(path, reason, transient=True)
            self._skipped = False
            try:
                self._call(path)
            except Exception as error:
                return self._failed(path, error, warnings)
        if any("match any file" in text for text in warnings.texts):
            return Outcome.failure(path, "the file vanished before the task read it", True)
        if self._skipped:
            if self._ignore_ingested and not warnings.texts:
                return Outcome.success(path, "already ingested")
            return Outcome.failure(path, f"the task skipped the file{warnings.as_reason()}")
        if warnings.already_ingested:
            return Outcome.success(path, "already ingested")
        return Outcome.success(path, "dry run: nothing was ingested" if self._dryrun else "")

    def _call(self, path: str) -> None:
        """Call the task, making the registry on the way if it is to be made and is not there.

        With ``create`` the task makes its tables anew on *every* call, so the wish is granted
        once per repository: an existing registry is never dropped.
        """
        # The task expands wildcards, which are ordinary characters in a file name.
        names = [glob.escape(path)]
        if not self._create or self._has_registry():
            self._create = False
            self._task.ingestFiles(names)
            return
        self._prepare(create=True).ingestFiles(names)
        # Only now: the task keeps a new registry only if the file went in.
        self._create = False
        with open(os.path.join(self._root, CREATED_NAME), "w") as marker:
            marker.write("The registry was made; `create` is ignored while this file exists.\n")

    def _has_registry(self) -> bool:
        return any(
            os.path.lexists(os.path.join(self._root, name))
            for name in (REGISTRY_NAME, CREATED_NAME)
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other workers off: the task copies the registry, adds to it and puts it back."""
        if self._dryrun:
            yield
            return
        with open(os.path.join(self._root, LOCK_NAME), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                if not self._lock_warned:
                    self._lock_warned = True
                    logger.warning(
                        "%s cannot be locked (%s): use one worker only",
                        escape(self._root),
                        error,
                    )
            yield

    def _failed(self, path: str, error: Exception, warnings: Warnings) -> Outcome:
        """Return the outcome of a file at which the task raised."""
        if warnings.already_ingested:
            target = self._destination(path)
            if target is not None and self._is_same(path, target):
                return Outcome.success(path, "already ingested")
            where = f" ({escape(target)})" if target is not None else ""
            return Outcome.failure(
                path,
                f"the repository already has a file with this data ID{where}: {describe(error)}",
            )
        return Outcome.failure(
            path, describe(error) + warnings.as_reason(), transient=_is_transient(error)
        )

    def _destination(self, path: str) -> str | None:
        """Return where the task would put the file, None if that cannot be told."""
        try:
            info, _ = self._task.parse.getInfo(path)
            return str(self._task.parse.getDestination(self._task._args.butler, info, path))
        except Exception:
            # None of this is promised by the task's interface.
            return None

    def _is_same(self, path: str, target: str) -> bool:
        try:
            if os.path.samefile(path, target):
                return True
            return self._mode == "copy" and filecmp.cmp(path, target, shallow=False)
        except OSError:
            return False


def _why_not_there(path: str) -> Outcome | None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Outcome.failure(path, "the file does not exist")
    except OSError as error:
        return Outcome.failure(path, f"the file cannot be reached: {describe(error)}", True)
    except ValueError as error:
        return Outcome.failure(path, f"not a file name: {describe(error)}")
    if not stat.S_ISREG(mode):
        return Outcome.failure(path, "not a regular file")
    return None


def _is_transient(error: BaseException) -> bool:
    return any(is_machine_trouble(link) or _is_database_trouble(link) for link in chain(error))


def _is_database_trouble(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return any(words in str(error) for words in _SQLITE_TROUBLE)
    # Of any other database's driver: it is out of reach or out of order.
    return type(error).__name__ in ("OperationalError", "InterfaceError")
