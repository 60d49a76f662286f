# The commands of this project. One Cargo profile (release) for all of them: the C++ libraries are built once, in a
# target directory outside the clone.

export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tallyman/target
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: help setup demo test lint bench

help:
	@echo 'make demo                 set up what is missing, build, and watch usage flow (tallyman dev)'
	@echo 'make test [FILTER=name]   set up what is missing and run the tests, also those on a real Kafka'
	@echo '                          FILTER=exact: sums, kills, rebuild (TALLYMAN_E2E_EVENTS=1000000 for more);'
	@echo '                          FILTER=bad_records, gateway, group, operations, registry, rollover: the others on a real Kafka'
	@echo 'make bench [EVENTS=n]      drain, latency and queries on a real Kafka that it starts (tallyman bench)'
	@echo 'make lint                 formatting and clippy'
	@echo 'make setup                only set up what is missing, for all of these'

setup:
	@deploy/setup.sh test

demo:
	@deploy/setup.sh demo
	@deploy/cargo.sh build --release --locked --bin tallyman
	@$(CARGO_TARGET_DIR)/release/tallyman dev

test: setup
	@deploy/cargo.sh test --release --locked --no-fail-fast -- $(FILTER)

bench: setup
	@deploy/cargo.sh bench --profile release --locked --bench kafka -- $(EVENTS)

lint:
	cargo fmt --check
	@deploy/cargo.sh clippy --release --locked --all-targets -- -D warnings
