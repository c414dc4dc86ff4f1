# Each target does all its set-up: its own virtual environment in .venv, Debian packages where a test needs them.
# The first Python that really starts, is 3.11 or newer and can make an environment: a name on PATH may be a shim of
# a version manager with nothing behind it.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell $(name) -c \
	'import ensurepip, sys, venv; sys.version_info >= (3, 11) or sys.exit(1); print("$(name)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo ui test check setup setup-test browser clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup  ## The whole journey on sample data, against the simulator; ends by itself
	@$(BIN)/claude-pipeline demo

ui: setup  ## The same, with the Dagster UI left open
	@$(BIN)/claude-pipeline demo --ui

test: setup-test browser  ## All tests, lint, types, floors
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup-test  ## Lint, types and floors only
	@$(BIN)/python -m pytest claude_pipeline_tests/test_architecture.py

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; a few minutes)"
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv on PATH; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

setup-test: $(VENV)/.installed-test

$(VENV)/.installed-test: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,postgres]'
	@touch $@

# Debian's Chromium, for the test that looks at the Dagster UI; without root or apt that test says so and is skipped.
browser:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
		echo "chromium is not installed and cannot be: the browser test will be skipped"

clean:  ## Remove the virtual environment and everything a run wrote under data/home
	rm -rf $(VENV) data/home *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
