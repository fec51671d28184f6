"""Comparisons of what the program does with the bare work of the same step.

``make bench`` runs them all, ``python -m benchmarks.NAME`` one; docs/performance.md says how to
read what they print.
"""

import os

import django
from django.conf import settings

if not settings.configured:
    # The project's own settings; `benchmarks.harness` turns to each database as it makes it.
    os.environ["DJANGO_SETTINGS_MODULE"] = "endpoint_site.settings"
    os.environ["DATABASE_URL"] = "sqlite://:memory:"
    os.environ["SECRET_KEY"] = "only for benchmarks, and of no worth to anybody at all"
    django.setup()
    del os.environ["DATABASE_URL"]
