# Two commands set everything up on a fresh machine: `make drill` and `make test`.
# Both work in a virtual environment of their own inside this checkout; no root is needed.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
PYTEST_ARGS ?=

.PHONY: help drill test lint types contracts packages suites bench simulate clean

help:
	@echo "make drill   destroy and recover an embedded lab; evidence in build/drill"
	@echo "make test    lint, types, import contracts and all test suites"
	@echo "make bench   figures and goals, section by section (docs/bench.md); BENCH=\"journal lab\""
	@echo "make simulate   recoveries by seed in a simulated world (SEEDS=100000)"
	@echo "make clean   remove the virtual environment and caches"

$(READY): requirements.lock .ci/pdf.lock pyproject.toml
	@sh .ci/environment $(VENV)
	@touch $@

drill: $(READY)
	@[ ! -e build/drill ] || mv build/drill build/drill-$$(date +%Y%m%dT%H%M%S)
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

packages:
	@sh .ci/packages
	@sh .ci/conformance

suites: $(READY) packages
	@echo "== tests"
	@sh .ci/suites $(BIN) $(JOBS) $(PYTEST_ARGS)

bench: $(READY)
	@$(BIN)/python tests/benchmarks/bench.py $(BENCH)

SEEDS ?= 100000
FIRST ?= 0
simulate: $(READY)
	@cd tests && ../$(BIN)/python -m sim --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS)

-include .ci/targets/reliability.mk .ci/targets/lab.mk

clean:
	rm -rf $(VENV) .ruff_cache .mypy_cache .import_linter_cache .hypothesis build dist
