# `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Makes the tools under .tools visible; everything that runs them starts with it.
ENV := source scripts/env.sh &&
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
# What `tasklease dev` starts, and the command itself.
DEMO_PACKAGES := -p tasklease-cli -p tasklease-scheduler -p tasklease-documents

.PHONY: help demo dev test bench chaos mutants lint fmt setup clean check-format clippy deny unused advisories check-proto

help: ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

demo: ## Set up, build, run real tasks end to end, stop everything
	@scripts/setup rust postgres
	@$(ENV) cargo build $(DEMO_PACKAGES)
	@$(ENV) scripts/demo $(BIN)

dev: ## Set up, build, run everything on 127.0.0.1:7070 until Ctrl-C
	@scripts/setup rust postgres
	@$(ENV) cargo build $(DEMO_PACKAGES)
	@mkdir -p .dev/files
	@$(ENV) if postgres_can_reach .dev/data; then data=.dev/data; else data=/var/lib/tasklease; fi; \
		exec $(BIN)/tasklease dev --data-dir $$data --files .dev/files

test: ## Set up, build, run all tests against a throw-away Postgres
	@scripts/setup rust postgres grpcurl faketime
	@$(ENV) cargo build --workspace --bins
	@$(ENV) $(BIN)/with-postgres cargo test --workspace

# What to measure; `make bench BENCH="latency --samples 5000"` and so on; `BENCH=--help` lists all.
BENCH := throughput
bench: ## Build for release and measure; BENCH=--help lists what there is
	@scripts/setup rust postgres
	@$(ENV) cargo build --release -p tasklease-bench -p tasklease-scheduler
	@$(ENV) $(dir $(BIN))release/tasklease-bench $(BENCH)

# Which runs to make; `make chaos CHAOS="--seed 7 --minutes 0.5"` makes one; CHAOS=--help lists all.
CHAOS := --seeds 30 --minutes 1 --keep-going
chaos: ## Build, break a running system on purpose, and check what it promises
	@scripts/setup rust postgres faketime
	@$(ENV) cargo build -p tasklease-chaos -p tasklease-scheduler --bins
	@$(ENV) $(BIN)/tasklease-chaos run $(CHAOS)

mutants: ## Plant known bugs one by one, and fail if the chaos tests miss one
	@scripts/setup rust postgres
	@$(ENV) tests/chaos/mutants/run

lint: check-format clippy deny unused check-proto ## Run every check that is not a test

fmt: ## Format Rust and the .proto files
	@scripts/setup buf
	@$(ENV) cargo fmt --all
	@$(ENV) cd proto && buf format -w

setup: ## Install every tool that the repository uses and the machine lacks
	@scripts/setup

clean: ## Remove what was built and what demo and dev left behind; keep .tools
	cargo clean
	rm -rf .demo .dev

check-format: ## Fail if Rust is not formatted
	@$(ENV) cargo fmt --all --check

clippy: ## Lint Rust; warnings are errors
	@$(ENV) cargo clippy --workspace --all-targets --locked -- -D warnings

deny: ## Check licences, banned crates and sources
	@scripts/setup cargo-deny
	@$(ENV) cargo deny --locked check licenses bans sources

unused: ## Fail if a manifest names a dependency that nothing uses
	@scripts/setup cargo-shear
	@$(ENV) cargo shear --locked

advisories: ## Check for known vulnerabilities; fetches their database
	@scripts/setup cargo-deny
	@$(ENV) cargo deny --locked check advisories

check-proto: ## Lint the .proto files and fail if they are not formatted
	@scripts/setup buf
	@$(ENV) cd proto && buf lint && buf format -d --exit-code
