# Two commands serve a newcomer: `make demo` and `make test`. Each installs what is missing first.

python := .venv/bin/python
thirdkey := .venv/bin/thirdkey
rooms := domain schemas eventstore actors projections service ops
pytest := $(python) -m pytest

# Tests run in this many processes. Those of tests/real share one, because their wallets want the other core.
TEST_WORKERS ?= 2
SOAK_MINUTES ?= 10

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup setup-dev demo demo-dispute serve serve-nodes test check format lock bench-log bench-replay bench-draws bench-setup bench-stream bench-actors bench-disputes bench-watch soak clean

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## installs what the service and the demo need
	@ops/install.sh

setup-dev: ## installs what the checks and the tests need as well
	@ops/install.sh --dev

demo: setup ## plays one escrow to its release on a private chain
	@$(thirdkey) demo

demo-dispute: setup ## plays one escrow through a dispute to a refund
	@$(thirdkey) demo --ending refund

serve: setup ## leaves the service running on its embedded defaults
	@$(thirdkey) serve

serve-nodes: setup-dev ## leaves three nodes and HAProxy running on one world
	@ops/haproxy/serve-nodes.sh

test: setup-dev ## all checks and all tests
	@$(MAKE) check
	$(pytest) -n $(TEST_WORKERS)

check: ## style, types, the arrows between the rooms, and our own checks
	@ops/install.sh --dev --no-monero
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(python) -m ops.checks

format: ## formats the code and mends what can be mended without thought
	@ops/install.sh --dev --no-monero
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# `make lock UPGRADE=--upgrade` takes newer versions; without it the locked ones stay where they still fit.
lock: ## makes the locks again from pyproject.toml
	@ops/install.sh --dev --no-monero
	ops/lock.sh $(UPGRADE)

bench-log: setup-dev ## sets the append beside a plain INSERT, a bare batch and the package eventsourcing
	@$(python) -m ops.bench.log

bench-replay: setup-dev ## sets a verified replay beside a bare read and eventsourcing; a small and a large log
	@$(python) -m ops.bench.replay

bench-draws: setup-dev ## times how an audit compares draws with what was committed, beside the whole audit
	@$(python) -m ops.bench.draws

bench-setup: setup ## times one real set-up against a bare script of the same wallet calls
	@$(python) -m ops.bench.setup

bench-stream: setup-dev ## sets the stream to 1,000 sockets beside a bare loop that sends as much
	@$(python) -m ops.bench.stream

bench-actors: setup ## times 10,000 escrow actors against as many threads
	@$(python) -m ops.bench.actors

bench-disputes: setup-dev ## times pages of 10,000 cases, and their rebuild beside a fold in memory
	@$(python) -m ops.bench.disputes

bench-watch: setup ## sets the chain scanner beside a view-only wallet opened for each escrow in turn
	@$(python) -m ops.bench.watch

soak: ## repeats the random tests with new seeds for SOAK_MINUTES
	@ops/install.sh --soak
	@ops/soak.sh $(SOAK_MINUTES)

clean: ## removes caches and .venv; keeps .thirdkey, which may hold keys
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find $(rooms) tests -name __pycache__ -type d -prune -exec rm -rf {} +
