# Everything a person needs to work on Trivium; `make help` lists it. Only Python 3.11 or later is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
# Bytecode is compiled afterwards, by all cores: pip takes one, and where PYTHONDONTWRITEBYTECODE is set no import would
# ever leave any, so that each start takes twice as long. Tests of other packages are left out.
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
BYTECODE := -m compileall -q -j 0 -x '[/]tests?[/]'
SOAK_SECONDS ?= 600
SOAK_SEEDS ?= 100000
PEERS := torch vw spark

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint types fast slow bench peers soak clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv and install Trivium with its tools, once

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Trivium needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true)." \
	       "Install one and name it: make setup PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv, once: a minute or less"
	@$(BIN)/python $(PIP) -e '.[dev]'
	@$(BIN)/python $(BYTECODE) .venv/lib src >/dev/null || true
	@touch $@

demo: setup ## train by every design and survive a death, in under a minute
	@$(BIN)/trivium demo

test: setup lint types fast slow ## what CI runs: style, types, layers, all tests

lint: setup ## style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: setup ## mypy --strict
	$(BIN)/mypy

fast: setup ## the tests that start no processes of a run, two at a time, and the examples in docstrings
	$(BIN)/pytest -m 'not slow' -n 2 --dist worksteal

slow: setup ## the tests that start and kill real processes; never two at a time, they need the cores
	$(BIN)/pytest -m slow

bench: setup ## time us and the peers that are installed; writes benchmarks/results
	$(BIN)/python -m benchmarks.run

peers: setup ## one environment a peer (.venv-torch, .venv-vw, .venv-spark); one that fails is skipped
	@for peer in $(PEERS); do \
	  bash benchmarks/peers/install.sh "$$peer" "$(PYTHON)" || echo "skipped: $$peer (see above)"; done

soak: setup ## SOAK_SEEDS (100000) simulated runs, many more random cases, real deaths for SOAK_SECONDS (600)
	$(BIN)/python -m trivium.testing.soak --seeds $(SOAK_SEEDS)
	$(BIN)/pytest -m 'not slow' -n 2 --dist worksteal --hypothesis-profile=soak --timeout=$(SOAK_SECONDS)
	@end=$$(( $$(date +%s) + $(SOAK_SECONDS) )); round=0; \
	while [ $$(date +%s) -lt $$end ]; do \
	  round=$$((round + 1)); echo "soak: round $$round"; $(BIN)/pytest -m slow || exit 1; done

clean: ## remove what can be made anew (not .venv, not runs)
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
