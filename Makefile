# Each target does all its set-up: its own virtual environment in .venv, Debian packages where a test needs them.
# The first Python that really starts, is 3.11 or newer and can make an environment: a name on PATH may be a shim of
# a version manager with nothing behind it.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell $(name) -c \
	'import ensurepip, sys, venv; sys.version_info >= (3, 11) or sys.exit(1); print("$(name)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

# Of `make fuzz`.
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help demo ui test long seeds kills mutants fuzz audit bench check setup setup-test debian clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup  ## The whole journey on sample data, against the simulator; ends by itself
	@$(BIN)/claude-pipeline demo

ui: setup  ## The same, with the Dagster UI left open
	@$(BIN)/claude-pipeline demo --ui

# Files in the order of their names, so that those with real processes of Dagster come first and none is left for one
# core alone at the end. Homes of tests lie in memory where there is room: each of their thousands of fsyncs would wait for a disk. Modules are
# compiled once for all processes that tests start, also where the environment says otherwise.
MEMORY = $(shell df --output=avail -k /dev/shm 2>/dev/null | awk '$$1 + 0 > 4000000 {print "/dev/shm"}')
test: setup-test debian  ## All tests, lint, types, floors
	@env -u PYTHONDONTWRITEBYTECODE TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

long: setup-test debian  ## The long forms of tests that have one (half an hour)
	@$(BIN)/python -m pytest -m long

seeds: setup-test  ## 10,000 seeds of the deterministic simulation on one core; ends with its figures (an hour)
	@$(BIN)/python -m claude_pipeline_tests.simulation --seeds 10000

kills: setup-test  ## 500 real processes killed by SIGKILL while the API fails, 50 more in real time; ends with its figures (20 minutes)
	@$(BIN)/python -m claude_pipeline_tests.kills --kills 500
	@$(BIN)/python -m claude_pipeline_tests.kills.realtime --kills 50

mutants: setup-test  ## Take each guard of the submit protocol out; names the test that fails for each
	@$(BIN)/python -m claude_pipeline_tests.mutants

fuzz: setup-test  ## Any input at every border for MINUTES (10) minutes, guided by coverage where Atheris has a wheel; ends with its figures
	@$(PIP) --editable '.[fuzz]' || true
	@$(BIN)/python -m claude_pipeline_tests.fuzz --minutes $(MINUTES)

audit: setup-test  ## Licence of each dependency, LICENCES.md anew, and the wheel installed and tried where nothing else is (some minutes)
	@$(BIN)/python -m claude_pipeline_tests.audit

bench: setup-test  ## What a record costs, stage by stage, against the plain SDK script and the floor; ends with a table (5 minutes)
	@$(BIN)/python -m claude_pipeline_tests.benchmark

check: setup-test  ## Lint, types and floors only
	@$(BIN)/python -m pytest claude_pipeline_tests/test_architecture.py

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

# The virtual environment. The pip of an older Python takes twice as long to find what the constraints name, and any pip
# compiles on one core what it installs.
define INSTALL
	@echo "setting up $(VENV) (once; a minute or two)"
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv on PATH; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(PIP) --upgrade pip || true
	@$(PIP) --no-compile --editable '.$(EXTRAS)'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # some files are no modules of this Python
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(INSTALL)
	@touch $@

$(VENV)/.installed-test: EXTRAS = [test,postgres,metrics]
$(VENV)/.installed-test: pyproject.toml constraints.txt
	$(INSTALL)
	@touch $(VENV)/.installed $@

# Debian's Chromium, for the test that looks at the Dagster UI, and PostgreSQL, for those of a ledger on a server;
# without root or apt those tests say so and are skipped.
DEBIAN = $(if $(shell command -v chromium),,chromium) $(if $(wildcard /usr/lib/postgresql/*/bin/postgres),,postgresql)
debian:
	@test -z "$(strip $(DEBIAN))" || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(DEBIAN) >/dev/null; } || \
		echo "not installed and cannot be: $(strip $(DEBIAN)); the tests that need it will be skipped"

clean:  ## Remove the virtual environment and everything a run wrote under data/home
	rm -rf $(VENV) data/home *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
