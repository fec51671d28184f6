#!/usr/bin/env python
"""Entry point of every command; see README.md for what each one does."""

import os
import sys

from buffer.problems import ConfigError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "endpoint_site.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ConfigError as error:
        # Settings that cannot be used (a malformed DATABASE_URL) are found before any command is.
        sys.exit(_refuse(error))


def _refuse(error: ConfigError) -> int:
    print(*error.problems, sep="\n", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
