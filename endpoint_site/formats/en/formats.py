"""Times have their seconds and say their zone, as everywhere else in the program."""

from __future__ import annotations

from typing import Final

DATETIME_FORMAT: Final = r"Y-m-d H:i:s \U\T\C"
DATE_FORMAT: Final = "Y-m-d"
