# Everything a newcomer needs: `make demo` and `make test`. A second run reuses the environment (stamp files in it).
#
#   make demo       install into .venv, run the whole road on the embedded model, end with a report
#   make test       the same environment plus the checkers, then the tests
#   make check      lint, format, types, floors, documentation
#   make docs       build the documentation site into site/
#   make clean      remove the environment and what was built (never runs/: that is your work)
#
# Variables: PYTHON=python3.12  VENV=/elsewhere  PIP_FLAGS="..."  ARGS="..." (passed on to demo or pytest)

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
ARGS ?=
bin := $(VENV)/bin
pip := $(bin)/python -m pip --quiet --disable-pip-version-check install $(PIP_FLAGS) -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types floors docs commands clean

help:
	@sed -n 's/^#   //p' Makefile

# The environment: made once, made again when what it is made from changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Tunesmith needs Python 3.11 or newer, $(PYTHON) is older. Name another one: make PYTHON=python3.12 ..."; exit 2; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing Tunesmith (the first time takes some minutes: torch is large) ..."
	@$(pip) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing the checkers ..."
	@$(pip) -e '.[dev,data,eval]'
	@touch $@

demo: $(VENV)/.core
	@$(bin)/tunesmith demo $(ARGS)

# One thread a test process: two processes with two threads each would fight for the same two cores.
test: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 $(ARGS)

check: lint types floors docs commands

lint: $(VENV)/.dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .

types: $(VENV)/.dev
	$(bin)/mypy

floors: $(VENV)/.dev
	$(bin)/lint-imports --no-logo

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict

# What README, documentation and examples tell people to type, typed (make test does this too).
commands: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -q tests/house/test_docs.py

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
