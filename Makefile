# Two commands: `make demo` shows the whole story, `make test` runs every test.
#
#   make unit     the tests that start no server
#   make check    linter, formatter, types, the direction of imports
#   make faults   the long fault runs; make bench: ours beside its peers; both write docs/results.md
#   make lock     newest versions into .ci/locks
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
LOCKS := .ci/locks

.PHONY: demo test unit faults bench picture screens reference check lock tools clean

demo: $(VENV)/.run
	$(BIN)/bbctl demo

test: $(VENV)/.test tools
	$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder -m "not faults"

unit: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/unit

faults: $(VENV)/.test tools
	$(BIN)/python -m pytest -q -p tests.faults.figures -n 3 --dist loadfile --no-loadscope-reorder -m faults tests

bench: $(VENV)/.test
	$(BIN)/python -m bench

# docs/demo.svg, from a real run; needs tmux.
picture: $(VENV)/.run
	$(BIN)/python docs/picture.py

# docs/screens.md, from the lab, broken on purpose; needs tmux.
screens: $(VENV)/.run
	$(BIN)/python docs/screens.py

# docs/reference.md, from the tables that bbctl reads by.
reference: $(VENV)/.run
	$(BIN)/python docs/reference.py

check: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "bbctl needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }

# What is installed is what the locks say, by hash; bbctl itself is installed from this folder.
$(VENV)/.run: $(VENV)/bin/python $(LOCKS)/run.txt pyproject.toml
	$(PIP) install --require-hashes -r $(LOCKS)/run.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/bin/python $(LOCKS)/test.txt pyproject.toml
	$(PIP) install --require-hashes -r $(LOCKS)/test.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

tools:
	@sh .ci/tools

lock: $(VENV)/.test
	$(PIP) install pip-tools
	$(BIN)/pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --upgrade --extra embedded -o $(LOCKS)/run.txt pyproject.toml $(LOCKS)/build.in
	$(BIN)/pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --upgrade --extra embedded --extra test -o $(LOCKS)/test.txt pyproject.toml $(LOCKS)/build.in
	for lock in run test; do cat $(LOCKS)/older-pythons.txt >> $(LOCKS)/$$lock.txt; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
