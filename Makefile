# One door for each thing to do here. The doors install what they need first; see scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench sim

help: ## show this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: ## three regions on this machine, and a page to meet in; DIRECTORY=etcd: with a database in them
	scripts/need-debian build page $(if $(filter-out embedded,$(DIRECTORY)),engines)
	scripts/need-npm web
	cd web && npm run --silent build
	cargo build --locked --release -p outlast
	target/release/outlast demo --directory $(or $(DIRECTORY),embedded)

test: ## build everything, run all tests, simulated failures and the end-to-end suite included
	scripts/need-debian build page python browser lab engines dns
	scripts/need-npm web clients/js proof/e2e
	scripts/need-python
	cd web && npm run --silent build && npm test --silent
	cd clients/js && npm run --silent build && npm test --silent
	cd clients/python && ../../build/venv/bin/python -m pytest -q
	cargo test --locked --workspace
	$(MAKE) --no-print-directory sim TWICE=1
	proof/e2e/run

lint: ## formatting, clippy, dependencies, house rules, types of the page
	scripts/need-debian build page shell
	scripts/need-npm web clients/js
	shellcheck $(filter-out %.mjs,$(wildcard scripts/*)) .ci/run proof/e2e/run
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo run --locked --quiet -p xtask -- tidy
	scripts/deny
	cd web && npx --no-install tsc --noEmit
	cd clients/js && npx --no-install tsc --noEmit

sim: ## schedules of failures against the real gateways and nodes; SEEDS=0..20000, TWICE=1 to compare two runs of each
	scripts/need-debian build
	cargo build --locked --profile sim -p outlast-sim
	target/sim/outlast-sim sweep $(if $(TWICE),--twice) --seeds $(or $(SEEDS),0..20000)

bench: ## packets, joins and memory a subscriber, beside the machine's floor
	scripts/need-debian build
	cargo run --locked --release -p outlast-bench
