"""How a call of a plugin, or its loading, may end without an answer."""

from __future__ import annotations


class PluginUnavailable(Exception):
    """The plugin cannot be loaded now; trying again later may help, no file is to blame."""


class HostDied(Exception):
    """The child ended, or was ended, in the middle of a call.

    Attributes
    ----------
    cause : str
        How it ended: signal, exit status or deadline.
    output : str
        The end of what it wrote to its standard output and error during the call.
    begun : bool
        Whether the plugin had been called; if not, no file was touched.
    """

    def __init__(self, cause: str, output: str = "", begun: bool = True) -> None:
        super().__init__(cause)
        self.cause = cause
        self.output = output
        self.begun = begun

    def __str__(self) -> str:
        return f"{self.cause}\nlast output:\n{self.output}" if self.output else self.cause


class IngestRaised(Exception):
    """The plugin raised an exception; the host lives on.

    Attributes
    ----------
    cause : str
        The exception and its causes, in one line.
    exit : bool
        Whether it was SystemExit.
    """

    def __init__(self, cause: str, exit: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.exit = exit
