# Longbox. `make help` lists the targets. Everything runs in .venv; nothing is installed outside this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV ?= uv
# Otherwise every process that is started compiles its packages anew, which takes it seconds.
unexport PYTHONDONTWRITEBYTECODE
# A file of tests stays with its worker (each starts servers of its own); tests/conftest.py says how many `auto` are.
EVERY_TEST := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet
LOCK_NOTE := \# Pinned with hashes for every platform and Python >= 3.11; made by `make lock`, not edited by hand.

.PHONY: help setup setup-dev demo test acceptance faults drills bench lint lint-style lint-types lint-imports format reference lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Then: $(BIN)/longbox --help"

setup: $(VENV)/.setup-done ## Make the virtual environment .venv with the longbox command in it
setup-dev: $(VENV)/.setup-dev-done

demo: setup ## Start everything, run the main job on the bundled sample, keep the UI up (ONCE=1: end after the job)
	@$(BIN)/longbox demo $(if $(filter 1 true yes,$(ONCE)),--once)

test: setup-dev ## Lint, types, import rules, all tests and their coverage (ARGS="tests/unit -k name": only those tests)
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m $(if $(ARGS),pytest $(ARGS),slipcover -m pytest $(EVERY_TEST))

acceptance: setup-dev ## Whole jobs through the UI's API, on a local folder and on a real S3 API
	@$(BIN)/python -m pytest tests/acceptance --stores local,s3

faults: setup-dev ## Kill the pipeline 200 times, at each of its steps (KILLS=, SEED=)
	@$(BIN)/python -m pytest -s tests/faults --kills $(or $(KILLS),200) --seed $(or $(SEED),1)

drills: setup-dev ## Storms on backups: 200 drills under writes and kills, 1,000 damaged objects (DRILLS=, FLIPS=, SEED=)
	@$(BIN)/python -m pytest -s tests/faults/test_drill_storm.py tests/faults/test_corruption_storm.py \
	  --drills $(or $(DRILLS),200) --flips $(or $(FLIPS),1000) --seed $(or $(SEED),1)

bench: setup $(if $(filter 1 true yes,$(PEERS)),.venv-bench/.setup-done) ## Measure loading, the pipeline, queries (ROWS=200000, REPEAT=3, ONLY="queries", PEERS=1)
	@$(if $(filter 1 true yes,$(PEERS)),.venv-bench/bin,$(BIN))/python -m benchmarks

lint: setup-dev ## Lint, formatting, types and import rules
	@$(MAKE) --no-print-directory --jobs --output-sync lint-style lint-types lint-imports

lint-style:
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lint-types:
	@$(BIN)/mypy

lint-imports:
	@$(BIN)/lint-imports

format: setup-dev ## Put the code into the house's format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

reference: setup ## Write the reference pages and .env.example anew from the code
	@$(BIN)/python -m cli.reference

lock: ## Solve the dependencies of pyproject.toml anew (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv (or UV=path): https://docs.astral.sh/uv/" >&2; exit 2; }
	@for lock in "requirements.lock:--group setup" "requirements-dev.lock:--group setup --group dev -c requirements.lock" \
	  "requirements-bench.lock:--group setup --group bench -c requirements.lock"; do \
	  file=$${lock%%:*}; flags=$${lock#*:}; touch $$file; \
	  $(UV) pip compile $(LOCK_FLAGS) $(LOCK_ARGS) pyproject.toml $$flags -o $$file; \
	  { printf '%s\n' '$(LOCK_NOTE)'; cat $$file; } > $$file.new; mv $$file.new $$file; \
	done

clean: ## Remove the virtual environment and caches (never data: LONGBOX_HOME stays)
	@if [ -x $(BIN)/longbox ]; then $(BIN)/longbox down || true; fi
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.setup-done: requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" bash deploy/local/setup.sh $(VENV) requirements.lock
	@touch $@

$(VENV)/.setup-dev-done: requirements-dev.lock requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" bash deploy/local/setup.sh $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.setup-done

.venv-bench/.setup-done: requirements-bench.lock pyproject.toml
	@PYTHON="$(PYTHON)" bash deploy/local/setup.sh .venv-bench requirements-bench.lock
	@touch $@
