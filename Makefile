# Everything a clone needs. On a bare Debian: apt-get install -y make python3-venv, then `make demo`.

PYTHON ?= python3
UV     ?= uv
VENV   := .venv
BIN    := $(VENV)/bin
KILLS  ?= 30
CHAOS  ?=
CASES  ?= 2000
BENCH  ?= polls pipeline
PYTEST_ARGS ?=
# The tests mostly wait for each other's processes, so a few at once take less than half the time.
JOBS   ?= 3

# Stamps live inside the environment, so that removing it removes them. The first one rebuilds from nothing: an
# environment that only ever grows hides a requirement that was dropped.
RUN := $(VENV)/.stamp-run
APP := $(VENV)/.stamp-relay
DEV := $(VENV)/.stamp-dev
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types layers format chaos fuzz bench requirements clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(APP) ## the main job, start to end, with nothing to set up
	@$(BIN)/relay demo

test: $(DEV) ## the tests; PYTEST_ARGS="tests/store -k claim" picks some
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

check: lint types layers test ## what must pass before a change goes in

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --quiet --check --diff

types: $(DEV) ## mypy --strict over the package
	$(BIN)/mypy

layers: $(DEV) ## import-linter: each layer imports only those to its right
	$(BIN)/lint-imports

format: $(DEV) ## put the code into its format, mend what can be mended
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format --quiet

chaos: $(DEV) ## kill -9 of the daemon, again and again; KILLS=30, CHAOS="--state FILE --minutes 20"
	$(BIN)/python -m tests.chaos --kills $(KILLS) $(CHAOS)

fuzz: $(DEV) ## schemathesis against relay and the sandbox; CASES=2000 each
	$(BIN)/python -m tests.fuzz --cases $(CASES)

bench: $(APP) ## CPU time against a bare loop; BENCH="polls pipeline"
	set -e; for name in $(BENCH); do $(BIN)/python -m bench $$name; done

# Hashes for every platform, no addresses. The three files share their pins: each is compiled against the wider one.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header $(UV_ARGS)

requirements: ## compile the requirements files (needs uv); UV_ARGS=--upgrade for newer versions
	@command -v $(UV) >/dev/null || { echo 'make requirements needs uv: pipx install uv' >&2; exit 1; }
	$(COMPILE) --extra dev -o requirements-dev.txt pyproject.toml
	$(COMPILE) --constraint requirements-dev.txt -o requirements.txt pyproject.toml
	printf 'hatchling>=1.27\neditables>=0.5\n' | \
		$(COMPILE) --constraint requirements-dev.txt -o requirements-build.txt -

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Hashes and an editable are refused in one call of pip, so there are two.
$(RUN): requirements.txt requirements-build.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo 'no $(PYTHON) here; on Debian: apt-get install -y make python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "relay needs Python 3.11 or newer; $$($(PYTHON) --version 2>&1) is too old. Name another: make PYTHON=python3.13 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make virtual environments; on Debian: apt-get install -y python3-venv' >&2; exit 1; }
	@echo 'setting up $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements.txt -r requirements-build.txt
	@touch $@

$(APP): $(RUN) pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(APP) requirements-dev.txt
	@echo 'adding the tools for tests'
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
