# Two commands: `make demo` trains and reports a tagger, `make test` runs every check.
#
# TORCH names the torch requirement, for a machine that wants a particular build:
#     make test TORCH=torch==2.13.0
TORCH ?= torch
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: demo test lint format clean

demo: $(VENV)/.core
	$(BIN)/pcloud train --config examples/demo.yaml --out $(DEMO)
	$(BIN)/pcloud evaluate $(DEMO)
	$(BIN)/pcloud report $(DEMO)

test: lint
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch goes first: the project asks for a range, and the build a machine already has stays.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
