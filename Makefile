# Each target sets up what it needs first: .venv with exactly what requirements.lock names, and Docker.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

.PHONY: help setup docker demo test up check bench lock clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -ts '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install what the lock names (half a minute, once)

$(STAMP): requirements.lock pyproject.toml .ci/install
	@.ci/install $(VENV)

docker: ## find a Docker engine, or install one (20 s, once; STRATUS_NO_DOCKER=1 skips this)
	@.ci/docker

demo: $(STAMP) docker ## deploy an app, balance it, hurt it, bill it, replay it (under a minute)
	@$(BIN)/stratus demo

test: $(STAMP) docker ## run all tests, on real NATS, Postgres and Docker (some minutes)
	@began=$$(date +%s); echo "Running the tests: some minutes."; \
	$(BIN)/python -m pytest -q $(ARGS); echo "Tests passed in $$(($$(date +%s) - began)) s."

up: $(STAMP) docker ## run the platform at http://127.0.0.1:8080 until Ctrl-C (ARGS="--port 9000")
	@exec $(BIN)/stratus up $(ARGS)

check: $(STAMP) ## lint, format, types, directions of imports (a minute)
	@echo "ruff check"; $(BIN)/ruff check .
	@echo "ruff format"; $(BIN)/ruff format --check .
	@echo "mypy"; $(BIN)/mypy
	@echo "lint-imports"; $(BIN)/lint-imports

bench: $(STAMP) ## measure the platform (five minutes), or what ARGS="scheduling overload" names
	@$(BIN)/python -m bench $(ARGS)

lock: ## write the lock files anew from pyproject.toml
	@test -x $(BIN)/python || .ci/install $(VENV)
	@$(BIN)/uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header pyproject.toml \
		--extra dev --extra build -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header pyproject.toml \
		--extra build -o requirements.runtime.lock
	@! grep -nE '://|^-|file:|@ ' requirements.lock requirements.runtime.lock \
		|| { echo "the lock names a place, not only versions" >&2; exit 1; }

clean: ## remove .venv, caches and the data of `make up`
	@rm -rf $(VENV) .data .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
