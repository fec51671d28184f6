# Targets for people who try this program or work on it; `make` alone lists them.
# Nothing but Python 3.11 to 3.13 and make is needed: everything else goes into .venv.

# The interpreter that .venv is made with: PYTHON=/usr/bin/python3.12, for instance. Without it, the
# first of these that is new enough and not too new.
PYTHON ?=
CANDIDATES := python3 python3.13 python3.12 python3.11
VENV ?= .venv
DEMO ?= demo
HOST ?= 127.0.0.1
PORT ?= 8000
# Processes that run tests; 1 runs them one after another in this one.
TEST_PROCESSES ?= 2
PYTEST_ARGS ?=
# Options and names of benchmarks: BENCH_ARGS='--quick finder_small', for instance.
BENCH_ARGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo admin test faults bench lint clean

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check install --quiet
suitable := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
linted := buffer ingest endpoint_site benchmarks fixtures tests docs manage.py

help: ## list the targets
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	    while IFS='|' read -r target text; do printf '  make %-8s %s\n' "$$target" "$$text"; done
	@echo "Variables: PYTHON (3.11 to 3.13), HOST and PORT of make admin, DEMO (the demo's directory)"

venv: $(VENV)/.installed ## make .venv with all that the program needs

demo: $(VENV)/.installed ## the whole way of some twenty files, for real, in ./demo; then `make admin`
	@# The command starts the program's own ones with the demo's settings, and signs nothing
	@# itself; with a key given to it, it makes no file outside its directory.
	@SECRET_KEY="$${SECRET_KEY:-this process signs nothing}" \
	    $(python) manage.py demo --directory "$(DEMO)"

admin: $(VENV)/.installed ## serve the demo's admin on http://127.0.0.1:8000/
	@test -f "$(DEMO)/environment" || { echo "There is no demo to show in $(DEMO)/: run make demo first." >&2; exit 1; }
	@set -a; . "$(DEMO)/environment"; set +a; \
	    export ALLOWED_HOSTS="$(HOST),localhost,127.0.0.1,[::1]"; \
	    echo "The admin is at http://$(HOST):$(PORT)/ - Ctrl-C stops it."; \
	    exec $(python) -m gunicorn endpoint_site.wsgi --bind "$(HOST):$(PORT)" --workers 1 --threads 4 \
	        --no-control-socket

# PostgreSQL first and SQLite, which runs everything, last, so that the coverage of both is printed
# before the last line of the tests' own summary.
test: lint $(VENV)/.installed-dev ## lint, check types and migrations, and run all tests
	@rm -f .coverage .coverage.*
	@if test -z "$${REQUIRE_SERVERS:-}" && ! $(python) -c '$(postgresql)'; then \
	    echo "== No PostgreSQL server answers, and none is installed: tests run on SQLite only" >&2; \
	else \
	    echo "== Tests that use the database, on PostgreSQL"; \
	    TEST_DATABASE=postgresql $(tests) --cov-report= $(PYTEST_ARGS); \
	fi
	@echo "== All tests, on SQLite"
	TEST_DATABASE=sqlite $(tests) --cov-append --cov-report=term $(PYTEST_ARGS)
postgresql = import sys; from tests import servers; sys.exit(servers.postgres_url() is None)
# A test that hangs fails, alone; the longest proper ones take a minute.
tests = $(python) -m pytest --timeout=300 -m 'not full' --cov $(parallel)
parallel = $(if $(filter-out 0 1,$(TEST_PROCESSES)),-n $(TEST_PROCESSES) --dist loadgroup)

# They wait most of the time: for leases, for what is frozen, for what was killed to be replaced.
faults: TEST_PROCESSES = 4
faults: $(VENV)/.installed-dev ## inject every fault that is known of, for real, and see what holds; some 40 minutes
	@rm -f .faults.jsonl
	@# One database that fails does not keep the other one from being hurt.
	@worst=0; for database in postgresql sqlite; do \
	    echo "== Faults, on $$database"; \
	    TEST_DATABASE=$$database FAULTS_TABLE=.faults.jsonl $(python) -m pytest tests/faults \
	        --timeout=1800 $(parallel) $(PYTEST_ARGS) || worst=$$?; \
	done; exit $$worst

bench: $(VENV)/.installed-dev ## compare speeds with those of the bare work; see docs/performance.md
	$(python) -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/.installed-dev ## ruff, mypy, and whether migrations are missing
	$(python) -m ruff check $(linted)
	$(python) -m ruff format --check $(linted)
	$(python) -m mypy
	@# SQLite in memory: the models are compared with the migrations, not with a database.
	SECRET_KEY=unused DATABASE_URL=sqlite://:memory: $(python) manage.py makemigrations --check --dry-run

clean: ## remove .venv, the demo and what tests leave behind; not data/
	@if test -d "$(DEMO)" && test -f "$(DEMO)/.endpoint-demo"; then rm -rf "$(DEMO)"; fi
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* .faults.jsonl
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip runs again only if the files that say what to install have changed.
$(VENV)/.installed: requirements.txt requirements-butler.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (some 500 MB; minutes, if pip has to download them) ..."
	@$(pip) -r requirements.txt -r requirements-butler.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV) ..."
	@$(pip) -r requirements-dev.txt
	@touch $@

$(VENV)/bin/python:
	@for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	    if "$$candidate" -c '$(suitable)' 2>/dev/null; then found="$$candidate"; break; fi; \
	done; \
	if test -z "$${found:-}"; then \
	    echo "Python 3.11, 3.12 or 3.13 is needed; tried: $(or $(PYTHON),$(CANDIDATES))." >&2; \
	    for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	        version=$$("$$candidate" --version 2>&1 | tail -n 1) || version="cannot be run"; \
	        echo "  $$candidate: $$version" >&2; \
	    done; \
	    echo "Name one that is: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "A virtual environment could not be made; on Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; }
