"""What the commands that take a component's YAML file have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic

from django.core.management.base import BaseCommand, CommandError, CommandParser

from buffer import database, database_ready, logsetup, outages
from buffer.config import Model, load, place
from buffer.problems import ConfigError

#: Bad usage or configuration; 1 is a command that itself failed.
EXIT_CONFIGURATION = 2


@contextmanager
def configuration_errors() -> Iterator[None]:
    """Turn a `ConfigError` into the end of the command, with exit status 2 and no traceback."""
    try:
        yield
    except database_ready.NotNow as error:
        # Not the configuration's fault: whoever started the command is to start it again.
        raise CommandError(str(error)) from None
    except ConfigError as error:
        raise configuration_error(error.problems) from None


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the failure of a database into the end of the command, with exit status 1."""
    try:
        yield
    except outages.UNAVAILABLE as error:
        raise CommandError(
            f"database {database.describe()}: cannot be used now: {outages.reason(error)}"
        ) from None


def configuration_error(problems: list[str]) -> CommandError:
    """Make the error that ends a command with exit status 2."""
    count = len(problems)
    head = "" if count == 1 else f"{count} problems in the configuration:\n"
    return CommandError(head + "\n".join(problems), returncode=EXIT_CONFIGURATION)


class ComponentCommand(BaseCommand, Generic[Model]):
    """A command with the argument CONFIG, which is read, checked and put to use first.

    A subclass sets `model`, and defines `run_component` and, if there is more to check,
    `check_config` and `add_options`.
    """

    model: ClassVar[type[Any]]
    #: False for commands that only look, whose log records go where Django sends them.
    sets_up_logging: ClassVar[bool] = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Add CONFIG, then the options of the command."""
        parser.add_argument("config", metavar="CONFIG", help="the component's YAML file")
        self.add_options(parser)

    def add_options(self, parser: CommandParser) -> None:
        """Add what the command takes besides CONFIG."""

    def handle(self, *, config: str, **options: Any) -> None:
        """Load the file and run; exits with status 2 if the file cannot be used."""
        with configuration_errors():
            loaded = self.prepare(config)
            with database_errors():
                self.run_component(loaded, **options)

    def prepare(self, path: str) -> Any:
        """Load a file, check it and make this process use its logging and database.

        Raises
        ------
        ConfigError
            With every problem that could be found, before anything was touched.
        """
        config: Any = self.load(path)
        problems = [
            *database.check(config.database),
            *logsetup.check(config.logging),
            *self.check_config(config),
        ]
        if problems:
            raise ConfigError(place(config, problems))
        try:
            if self.sets_up_logging:
                logsetup.setup(config.logging)
            database.use(config.database)
            database_ready.require_migrated()
        except database_ready.NotNow:
            raise
        except ConfigError as error:
            raise ConfigError(place(config, error.problems)) from None
        return config

    def load(self, path: str) -> Any:
        """Read the file and check it by itself."""
        return load(path, self.model)

    def check_config(self, config: Any) -> list[str]:
        """Give the problems that the file has beyond its own text, each beginning with its key."""
        return []

    def run_component(self, config: Any, **options: Any) -> None:
        """Do the command's work."""
        raise NotImplementedError
