# `make` alone lists the targets. `make demo` and `make test` do all their own set-up.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
  if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
  then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types contracts check bench lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## make .venv with the locked versions and the command chorus

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Chorus needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## replay a year of real flights on embedded parts: make demo DEMO="--days 20 --exit"
	@$(BIN)/chorus demo $(DEMO)

test: install ## run the whole test suite
	@$(BIN)/python -m pytest $(TESTS)

lint: install ## ruff: style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install ## mypy --strict
	@$(BIN)/mypy

contracts: install ## imports go one way: streams <- members <- evaluator
	@$(BIN)/lint-imports

check: lint types contracts ## lint, types and contracts

bench: install ## print the ratios side by side and write build/bench.json
	@$(BIN)/python -m bench

lock: install ## resolve the dependencies anew and write requirements.lock
	@$(BIN)/python -m pip install --quiet uv && $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --extra demo --extra dev pyproject.toml -o requirements.lock

clean: ## remove .venv and build
	rm -rf $(VENV) build
