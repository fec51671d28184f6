"""The product's settings, with the mutant that `tests.faults.mutants` describes."""

from endpoint_site.settings import *  # noqa: F403
from endpoint_site.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.mutants.Mutants"]
