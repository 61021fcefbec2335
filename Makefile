SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
UV_REQUIREMENT := uv==0.13.9
LOG_DIR ?= logs
IMAGE ?= imagegen:0.1.0
ARGS ?=

# Tests start hundreds of processes: none shall compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

RUNTIME_EXTRAS := server,cli,embedded
DEV_EXTRAS := $(RUNTIME_EXTRAS),s3,dev

RUNTIME := .venv/.runtime
DEV := .venv/.dev

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-24s %s\n", $$1, $$2}'

# --- environment

# uv takes a tenth of pip's time, but none of its settings: where those name an index, and where uv cannot
# install, pip does. Most modules are never imported; those that are, are compiled then.
define install
	@trap 'exit 130' INT; \
	wanted=(--quiet --constraint constraints.txt --editable '.[$(1)]'); \
	installed() { \
	  ! $(PIP) config list | grep index >/dev/null && $(PIP) install --quiet --no-compile $(UV_REQUIREMENT) && \
	  $(BIN)/uv pip install --python $(BIN)/python "$${wanted[@]}"; \
	}; \
	installed || $(PIP) install --no-compile "$${wanted[@]}"
endef

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the service needs to run into .venv"
	$(call install,$(RUNTIME_EXTRAS))
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the tests need into .venv"
	$(call install,$(DEV_EXTRAS))
	@touch $(RUNTIME) $@

.PHONY: install-tools
install-tools: $(DEV) ## Install everything for development; buf too, where npm exists
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix .tools @bufbuild/buf@1.75.0; else echo "npm not found: buf is not installed"; fi

.PHONY: constraints
constraints: ## Write the versions installed now into constraints.txt
	@$(PIP) freeze --exclude-editable --exclude uv > constraints.txt

# --- the service

.PHONY: demo
demo: $(RUNTIME) ## Show the whole service at work; pictures go to out/
	@$(BIN)/python -m server demo

.PHONY: run
run: $(RUNTIME) ## Serve on GRPC_PORT 8080 and HTTP_PORT 9090, with a Redis and a database of its own
	@LOG_FORMAT=$${LOG_FORMAT:-console} $(BIN)/python -m server all

.PHONY: run-worker
run-worker: $(RUNTIME) ## Run one more worker; needs STORE_URL and REDIS_URL
	@HTTP_PORT=$${HTTP_PORT:-0} $(BIN)/python -m server worker

.PHONY: dev
dev: $(RUNTIME) ## Like run, with debug logs for people
	@LOG_FORMAT=console LOG_LEVEL=debug $(BIN)/python -m server all

.PHONY: dev-worker
dev-worker: $(RUNTIME) ## Like run-worker, with debug logs for people
	@LOG_FORMAT=console LOG_LEVEL=debug HTTP_PORT=$${HTTP_PORT:-0} $(BIN)/python -m server worker

.PHONY: redis-queue-status
redis-queue-status: $(RUNTIME) ## Print what is in the queue at REDIS_URL; unset: of make run
	@LOG_LEVEL=error $(BIN)/python -m server queue-status

.PHONY: redis-queue-clear
redis-queue-clear: $(RUNTIME) ## Empty the queue at REDIS_URL (unset: of make run) after asking; unfinished tasks come back from the store
	@read -r -p "Empty the queue? [y/N] " answer; [ "$$answer" = y ] || { echo "left as it is"; exit 1; }
	@LOG_LEVEL=error $(BIN)/python -m server queue-clear

.PHONY: redis-queue-clear-force
redis-queue-clear-force: $(RUNTIME) ## The same without asking
	@LOG_LEVEL=error $(BIN)/python -m server queue-clear

.PHONY: show-logs
show-logs: ## Follow the log files in LOG_DIR
	@ls $(LOG_DIR)/*.log >/dev/null 2>&1 || { echo "no log files in $(LOG_DIR)/: start the service with LOG_DIR=$(LOG_DIR), or name its directory: make show-logs LOG_DIR=…" >&2; exit 1; }
	@tail -n 50 -F $(LOG_DIR)/*.log

.PHONY: clean-logs
clean-logs: ## Remove the log files in LOG_DIR
	@rm -f -- $(LOG_DIR)/*.log $(LOG_DIR)/*.log.*

# --- the code

.PHONY: proto
proto: $(DEV) ## Generate generated/ from proto/
	@$(BIN)/python proto/generate.py

.PHONY: fmt
fmt: $(DEV) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

.PHONY: style
style: $(DEV)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports | tail -n 3

.PHONY: lint
lint: style ## Check style, import contracts and protos
	@$(BIN)/python -m pytest --quiet -p no:randomly tests/proto

.PHONY: type
type: $(DEV) ## Check types, strictly, over code and tests
	@$(BIN)/mypy

# The processes of a test run find its modules compiled.
.PHONY: collected
collected: $(DEV)
	@collected=$$($(BIN)/python -m pytest --collect-only -qq) || { echo "$$collected"; exit 1; }

# Types are checked beside the tests: that takes one processor for long, and tests wait now and then.
.PHONY: most-tests
most-tests: $(DEV) style collected
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadgroup -m "not alone" $(ARGS)

.PHONY: test
test: $(DEV) ## Install what is needed and check everything
	@$(MAKE) --no-print-directory --jobs 3 type most-tests \
		|| { echo "make test: types, style or tests failed, see above; the tests that run alone were not begun" >&2; exit 1; }
	@$(BIN)/python -m pytest -m alone -s tests/distributed tests/contract tests/integration/api

.PHONY: test-coverage
test-coverage: $(DEV) ## Run the tests and report which lines they reach
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadgroup -m "not alone" --cov server --cov imagegen --cov-report term-missing:skip-covered $(ARGS)

.PHONY: bench
bench: $(DEV) ## Measure the service beside a bare gRPC echo and other queues; ARGS="--quick", "--only worker"
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: chaos
chaos: $(DEV) ## Kill processes at work and count what is lost or bought twice; ARGS="--row NAME", "--short"
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: build
build: $(DEV) ## Build the wheel into dist/
	@$(PIP) wheel --quiet --no-deps --wheel-dir dist .

# --- containers

.PHONY: docker-build
docker-build: ## Build the container image
	@docker build --tag $(IMAGE) .

.PHONY: docker-run
docker-run: ## Run the embedded stack in a container
	@docker run --rm --publish 8080:8080 --publish 9090:9090 $(IMAGE) all

.PHONY: docker-compose-up
docker-compose-up: ## Start api, workers, Redis and MongoDB
	@docker compose up --build --detach --wait

.PHONY: docker-compose-down
docker-compose-down: ## Stop them; data stays in the volumes
	@docker compose down
