# Two commands set everything up on a fresh machine: `make drill` and `make test`.
# Both work in a virtual environment of their own inside this checkout; no root is needed.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
PYTEST_ARGS ?=

.PHONY: help drill test lint types contracts suites clean

help:
	@echo "make drill   destroy and recover an embedded lab; evidence in build/drill"
	@echo "make test    lint, types, import contracts and all test suites"
	@echo "make clean   remove the virtual environment and caches"

$(READY): requirements.lock pyproject.toml
	@sh .ci/environment $(VENV)
	@touch $@

drill: $(READY)
	@rm -rf build/drill
	@$(BIN)/drengine drill --out build/drill $(DRILL_ARGS)

test: lint types contracts suites

lint: $(READY)
	@echo "== lint"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

types: $(READY)
	@echo "== types"
	@$(BIN)/mypy --no-error-summary

contracts: $(READY)
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

suites: $(READY)
	@echo "== tests"
	@sh .ci/suites $(BIN) $(JOBS) $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .ruff_cache .mypy_cache .import_linter_cache .hypothesis build dist
