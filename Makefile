# Waystation. The two commands of the README are `make demo` and `make test`; each installs what it lacks.
#
# One cargo profile (release) and one target directory outside the checkout serve everything, so that librocksdb, by far
# the longest part of a build, is compiled once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= $(HOME)/.cache/waystation/target
TARGET := $(CARGO_TARGET_DIR)
TOOLS := $(HOME)/.cache/waystation/tools
VENV := $(TARGET)/venv
BINARY := $(TARGET)/release/waystation
# Tests find the Python peers here.
export PEERS_VENV := $(VENV)

.PHONY: help setup venv build demo test hostile fuzz lint deny bench docs

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

setup: ## install the Debian packages that are missing (root), or say which
	@tools/setup

venv: setup ## Python peers (pydicom, pynetdicom), pinned, under the target directory
	@tools/venv "$(VENV)" tests/requirements.txt

build: setup ## the release binary
	cargo build --release --locked --bin waystation

demo: build ## a box, a receiver, modalities, a cut WAN and a kill -9: exit 0 only if nothing was lost
	"$(BINARY)" demo

test: setup venv ## all tests, real peers included, with the faults that prove that the tests can fail
	cargo test --release --locked --features planted

hostile: setup venv ## the hostile corpus and the floods of silent connections; ends with their count
	@tools/counted "$(TARGET)/hostile.log" cargo test --release --locked --features planted --test hostile -- --nocapture

# Seconds for each target.
SECONDS ?= 60
fuzz: setup ## every fuzz target for SECONDS (60); FUZZ_SEED chooses another search; ends with their count
	@FUZZ_SECONDS=$(SECONDS) tools/counted "$(TARGET)/fuzz.log" cargo test --release --locked --features planted --test fuzz -- --nocapture

lint: setup deny ## formatting, clippy with warnings denied (both feature sets), licences and sources
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --all-targets --features planted -- -D warnings

deny: ## licences, bans and sources of all dependencies; advisories when the database can be reached
	@tools/deny "$(TOOLS)"

bench: setup ## the benchmarks
	cargo bench --locked

docs: ## the guides as HTML, under the target directory
	@tools/docs "$(TOOLS)" "$(TARGET)/book"
