# `make run` and `make test` are the whole set-up: scripts/setup brings what is missing.

python := .venv/bin/python
litter := .venv dist .go_cache .hypothesis .mypy_cache .pytest_cache .ruff_cache

.DEFAULT_GOAL := help
.NOTPARALLEL:
T = 600

.PHONY: help run test test-kernels bench fuzz lint format check picture wheel clean setup-run setup-dev setup-test setup-bench setup-kernels

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

run: setup-run ## Trace a small labelled workload, as root: ARGS="-d 30s" is passed to `twtrace demo`
	@scripts/as-root .venv/bin/twtrace demo $(ARGS)

test: setup-test ## Run the tests, as root for those of the kernel: ARGS="-k ledger" is passed to pytest
	@scripts/as-root $(python) -m pytest -q -p no:cacheprovider $(ARGS)

test-kernels: setup-kernels ## Run the kernel tests on other kernels, in VMs: K=6.12 takes one, ARGS=--write-docs
	@scripts/as-root $(python) -m vagrant test $(addprefix --kernel=,$(K)) $(ARGS)

bench: setup-bench ## Measure twtrace beside other tools, 20 minutes; writes docs/performance.md: ARGS="--only churn"
	@scripts/as-root $(python) -m tests.bench $(ARGS)

fuzz: setup-dev ## Spoil traces for T=600 seconds and read them; what fails is kept in tests/fuzz/found
	@$(python) -m tests.fuzz --seconds $(T)

lint: setup-dev ## Check style and types
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@$(python) -m mypy

format: setup-dev ## Put the Python code in form
	@$(python) -m ruff check --fix-only
	@$(python) -m ruff format

check: lint test ## lint and test

picture: setup-run ## Draw docs/twtrace.svg anew: the screen on the example trace
	@$(python) scripts/picture.py docs/twtrace.svg

wheel: setup-run ## Build dist/twtrace-*.whl
	@$(python) -m pip wheel --disable-pip-version-check -q --no-deps --wheel-dir dist .

clean: ## Remove all that these commands made, but no system package
	@rm -rf $(litter) 2>/dev/null || scripts/as-root rm -rf $(litter)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup-run:
	@scripts/setup run

setup-dev:
	@scripts/setup dev

setup-test:
	@scripts/setup test

setup-bench:
	@scripts/setup bench

setup-kernels:
	@scripts/setup kernels
