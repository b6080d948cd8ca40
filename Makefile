# Three commands: `make demo` trains and reports a tagger, `make test` runs every check, `make docs`
# builds the site.
#
# TORCH names the torch requirement, for a machine that wants a particular build, PYTHON the
# interpreter, VENV the folder of its environment, INSTALL the command that installs packages into it,
# WORKERS the number of processes that test and MARKS the tests of `make suite` (all by default):
#     make test TORCH=torch==2.13.0
#     make test PYTHON=python3.12 VENV=.venv-3.12
TORCH ?= torch
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL ?= $(BIN)/pip install
DEMO := runs/demo
WORKERS ?= auto
MARKS ?=
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile

# Settings under which products and sums are rounded as on other processors.
ROUNDING ?= OMP_NUM_THREADS=2 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE MKL_CBWR=AVX2

.PHONY: demo test lint types suite test-rounding docs package environment format clean

demo: $(VENV)/.core
	$(BIN)/pcloud train --config examples/demo.yaml --out $(DEMO)
	$(BIN)/pcloud evaluate $(DEMO)
	$(BIN)/pcloud report $(DEMO)

test: lint types suite

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: environment
	$(BIN)/mypy

suite: environment
	OMP_NUM_THREADS=1 $(PYTEST) $(if $(MARKS),-m "$(MARKS)")

# The tests that rounding could break (search, order, parity, symmetry), under each setting. Only
# the files that have some are collected, and single tests are shared out: a few take very long.
test-rounding: environment
	status=0; \
	files=$$(grep --recursive --files-with-matches --include='test_*.py' mark.rounding tests); \
	for setting in $(ROUNDING); do \
	    echo "--- $$setting"; \
	    env OMP_NUM_THREADS=1 $$setting $(PYTEST) --dist worksteal -m rounding $$files || status=1; \
	done; \
	exit $$status

# The site, in docs/_build/html. Nothing is fetched, and a warning or an error in a tutorial is an
# error; tutorials that have not changed are not executed again. PCLOUD_TUTORIALS=short makes them
# take fewer events and epochs: a check that they run.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -E -W --keep-going --quiet \
	    -d docs/_build/pages docs docs/_build/html
	@echo docs/_build/html/index.html

# Wheel and source distribution in dist/, with the checks of the package index.
package: $(VENV)/.package
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

format: environment
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

environment: $(VENV)/.dev

# torch goes first: the project asks for a range, and the build a machine already has stays.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --quiet "$(TORCH)"
	touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml
	$(INSTALL) --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(INSTALL) --quiet --editable '.[dev]'
	touch $(VENV)/.core $@

$(VENV)/.docs: $(VENV)/.torch pyproject.toml
	$(INSTALL) --quiet --editable '.[docs]'
	touch $(VENV)/.core $@

$(VENV)/.package:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --quiet build twine
	touch $@

clean:
	rm -rf $(VENV)
