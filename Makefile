# `make` alone lists what there is. One virtual environment, .venv, from hash-locked lists; a stamp file in it says which
# steps are done, so that a second run does nothing and needs no network.

.PHONY: help setup demo test check lint types imports pure files process search spark scale kafka e2e browser lock clean
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# The first Python that is new enough and not too new; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11 python; do \
	$$each -c '$(SUPPORTED)' >/dev/null 2>&1 && { command -v $$each; break; }; done)
# make test KAFKA=host:port: that broker in place of the embedded one.
ifdef KAFKA
export SPINNEY_TEST_KAFKA := $(KAFKA)
endif

# Python keeps what it has compiled. Where it may not (images of containers set this), each process of the tests compiles
# all that it imports: 8 s in place of 3 s of CPU time for `spinney stream`.
unexport PYTHONDONTWRITEBYTECODE

# Three files of tests at a time, all with one broker: tests that wait for killed and restarted processes leave cores
# idle. One process took 31 minutes where three took 18; later, three took 16 minutes and four 18. Two of the three start
# a Spark session of their own, the third one takes files without Spark first (tests/support/tier_scheduling.py).
TOGETHER := -n 3 --dist loadfile --no-loadscope-reorder
# Tests without Spark: as many files at a time as there are cores. ARGS="-n 0 --pdb" overrides it.
ON_ALL_CORES := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# What `make check` does, as one command that ends at the first failure.
CHECK := $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
CHECK_OUTPUT := $(VENV)/.check-output

help: ## what there is
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.class-archives ## packages, jars, Java: all that the others need

demo: $(VENV)/.machine ## the whole loop on real flights, with its own Kafka; ARGS="--json" is passed on
	@$(BIN)/spinney demo $(ARGS)

# The checks run beside the first tests. What they say is shown when they end and, if one fails, again at the end.
test: setup ## lint, types, import rules and every tier of tests; KAFKA=host:port takes that broker
	@{ ($(CHECK)) >$(CHECK_OUTPUT) 2>&1; checked=$$?; cat $(CHECK_OUTPUT); exit $$checked; } & check=$$!; \
	$(BIN)/python -m pytest $(TOGETHER) $(ARGS); tested=$$?; \
	wait $$check || { cat $(CHECK_OUTPUT); echo "make: a check failed, see above" >&2; exit 1; }; \
	exit $$tested

check: lint types imports ## what needs no test run

lint: $(VENV)/.project ## ruff
	@$(BIN)/ruff check .

types: $(VENV)/.project ## mypy --strict
	@$(BIN)/mypy

imports: $(VENV)/.project ## the layers of docs/design.md
	@$(BIN)/lint-imports

pure: $(VENV)/.project ## tests of the core's functions: no tables, no other process
	@$(BIN)/python -m pytest tests/pure $(ON_ALL_CORES) $(ARGS)

files: $(VENV)/.project ## tests of files and tables within one process: no server, no Spark, no Kafka
	@$(BIN)/python -m pytest tests/files $(ON_ALL_CORES) $(ARGS)

process: $(VENV)/.project ## tests of other processes, servers and MLflow, without Spark and Kafka
	@$(BIN)/python -m pytest tests/process $(ON_ALL_CORES) $(ARGS)

search: $(VENV)/.project ## property tests with examples that no run has tried, many more of them
	@$(BIN)/python -m pytest tests/pure tests/files tests/process -m hypothesis --hypothesis-profile=search $(ON_ALL_CORES) $(ARGS)

spark: setup ## tests with a Spark session
	@$(BIN)/python -m pytest tests/spark $(ARGS)

scale: setup ## fifty thousand groups: two weekly rounds, a round of the stream, every model compared
	@$(BIN)/python -m pytest tests/scale $(ARGS)

kafka: setup ## tests with a real broker
	@$(BIN)/python -m pytest tests/kafka $(ARGS)

e2e: setup ## tests of the product as a user runs it
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

browser: $(VENV)/.browser ## the fleet page in Chromium, by clicks and keys; no part of `make test`
	@$(BIN)/python benchmarks/page_in_browser.py --groups 2000 $(ARGS)

lock: $(VENV)/.project ## resolve pyproject.toml again into the three locked lists
	@$(BIN)/python -m pip install --quiet uv
	@echo 'setuptools>=77' | $(LOCK) - --output-file requirements-build.lock
	@$(LOCK) --extra dev pyproject.toml --output-file requirements.lock
	@$(LOCK) --group browser --constraint requirements.lock --output-file requirements-browser.lock

LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" --no-annotate --no-emit-index-url --no-emit-find-links

clean: ## remove what was made here; the jars in the user's cache stay
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- how .venv comes to be ---------------------------------------------------------------------------------------------

INSTALL = $(BIN)/python -m pip install --disable-pip-version-check
OFFLINE = { echo "make: packages could not be installed: pip says why above. Check network and disk, then run make again:" \
	"what has come is kept in pip's cache" >&2; exit 1; }

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11, 3.12 or 3.13 found (python3 is" \
		"$$(python3 --version 2>/dev/null || echo missing)). Install one, or run make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) cannot make virtual environments." \
		"Install its venv package (Debian, Ubuntu: apt install python3-venv), then run make again" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo "make: $(VENV) could not be made, see above." \
		"Check disk and rights of this folder, then run make again" >&2; exit 1; }
	@touch $@

$(VENV)/.packages: requirements.lock requirements-build.lock $(VENV)/.python
	@echo "Packages of requirements.lock go into $(VENV): 1 GB, a few minutes the first time"
	@$(INSTALL) --quiet --require-hashes --requirement requirements-build.lock || $(OFFLINE)
	@# Not compiled: half of pip's time went into modules that nothing imports. Python compiles those that are.
	@$(INSTALL) --no-compile --require-hashes --no-build-isolation --use-pep517 --requirement requirements.lock || $(OFFLINE)
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.packages
	@$(INSTALL) --quiet --no-index --no-deps --no-build-isolation --editable . || $(OFFLINE)
	@touch $@

$(VENV)/.machine: spinney/local/jars.lock spinney/local/spark_submit_conf.py $(VENV)/.project
	@$(BIN)/python -m spinney.local.java_and_jars
	@touch $@

# Not part of `make setup`: only `make browser` needs it.
$(VENV)/.browser: requirements-browser.lock $(VENV)/.project
	@$(INSTALL) --no-compile --require-hashes --requirement requirements-browser.lock || $(OFFLINE)
	@touch $@

# Once half a minute, so that each start of Spark takes half the time. The demo, which starts it once, does without.
$(VENV)/.class-archives: spinney/local/class_archive_training.py $(VENV)/.machine
	@$(BIN)/python -m spinney.local.class_archive_training
	@touch $@
