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

.PHONY: freeze-spool help setup venv build demo test certs hostile fuzz lint deny bench bench-peers bench-relay bench-wan bench-backlog docs
.PHONY: properties package package-test sbom editor-test
.PHONY: soak-kill soak-power soak-syscalls soak-disk soak-corrupt soak-io soak-readonly soak-memory controls sim
.PHONY: soak-flush soak-descriptors soak-clock soak-twice soak-signals soak-reload soak-leak

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## install the Debian packages that are missing (root), or say which
	@tools/setup

venv: setup ## Python peers (pydicom, pynetdicom), pinned, under the target directory
	@tools/venv "$(VENV)" tests/requirements.txt

build: setup ## the release binary
	cargo build --release --locked --bin waystation

demo: build ## a box, a receiver, modalities, a cut WAN and a kill -9: exit 0 only if nothing was lost
	rm -rf "$(TARGET)/demo"
	exec "$(BINARY)" demo --keep "$(TARGET)/demo"

test: setup venv ## all tests, real peers included, with the faults that prove that the tests can fail
	cargo test --release --locked --features planted

# N is how many rounds (0: all there are), SEED which faults, KEEP a folder for what a failed verdict leaves; each ends with `N passed, N failed`. docs/durability.md.
SOAK := cargo test --release --locked --features planted --test soak --
N ?=
SEED ?=
export N SEED

soak-kill: setup venv ## N rounds of kill -9 at random moments under load
	@$(SOAK) kill

soak-power: setup venv ## N power cuts under load, ext4 and xfs (root: loop devices)
	@$(SOAK) power

soak-syscalls: setup venv ## SIGKILL, EIO, ENOSPC and short write at the N-th durable system call, N counted through
	@$(SOAK) syscalls

soak-disk: setup venv ## N full disks under load, in bytes and in inodes (root: loop devices)
	@$(SOAK) disk

soak-corrupt: setup venv ## each kind of file of the spool, damaged in five ways
	@$(SOAK) corrupt

soak-io: setup venv ## N times EIO from the block device, on write, flush and read (root: FUSE and loop devices)
	@$(SOAK) io

soak-readonly: setup venv ## N times a file system that turns read-only under load; a disk that is not mounted (root)
	@$(SOAK) readonly

soak-flush: setup venv ## N failing disks below a program that only appends and flushes: are its flushes true? (root)
	@$(SOAK) flush

soak-memory: setup venv ## N memory limits under load with long objects, down to the OOM kill (root: control groups)
	@$(SOAK) memory

soak-descriptors: setup venv ## N times 64 descriptors for the whole box, and others that take them all
	@$(SOAK) descriptors

soak-clock: setup venv ## N jumps of the wall clock by ten years, under load, in an outage, across a restart
	@$(SOAK) clock

soak-twice: setup venv ## N times a second process on the same spool, also after a kill -9 of the first
	@$(SOAK) twice

soak-signals: setup venv ## N stops by SIGTERM in a storm of SIGHUP
	@$(SOAK) signals

soak-reload: setup venv ## N hostile changes of the rule folder under load, one each 50 ms
	@$(SOAK) reload

soak-leak: setup venv ## N associations in a row against one process: memory and descriptors stay
	@$(SOAK) leak

freeze-spool: setup venv ## write tests/fixtures/spool-vN anew, when the spool's format is new: commit it with the format
	cargo test --release --locked --features planted --test it -- --ignored --exact fixture::freeze

controls: setup venv ## planted faults, each of which a soak must find (root: loop devices)
	@$(SOAK) controls

# A checkout of the public server, github.com/rhaiscript/lsp, builds it: cargo build -p rhai-cli.
RHAI_LSP ?= rhai
editor-test: build ## completion and hover over a rule folder by the public Rhai language server (RHAI_LSP=path of `rhai`)
	@rm -rf "$(TARGET)/editor" && cp -r rules "$(TARGET)/editor"
	@"$(BINARY)" rules editor "$(TARGET)/editor"
	@python3 tests/peers/language_server.py "$(TARGET)/editor" "$(RHAI_LSP)" lsp stdio

# Simulated lives of the box; SEED=s runs and tells a single one.
SEEDS ?= 20000
sim: setup ## the box's decisions in virtual time, SEEDS lives with faults; big scenarios; planted faults that it must find
	@SEEDS=$(SEEDS) cargo test --release --locked --features planted --test sim

hostile: setup venv ## the hostile corpus and the floods of silent connections; ends with their count
	@HOSTILE_ASSOCIATIONS=$${HOSTILE_ASSOCIATIONS-100000} tools/counted "$(TARGET)/hostile.log" cargo test --release --locked --features planted --test hostile -- --nocapture

certs: setup venv ## certificates at listeners and destinations, every fault by other people's tools; ends with their count
	@tools/counted "$(TARGET)/certs.log" cargo test --release --locked --features planted --test it -- certs:: --nocapture --test-threads 2

# As many times the usual cases of each property as CASES is more than 256; PROPERTY names some by a part of their path.
CASES ?= 2560
PROPERTY ?=
properties: setup venv ## the unit tests with CASES (2560) random values for each law instead of 256; PROPERTY chooses some
	PROPTEST_CASES=$(CASES) cargo test --release --locked --features planted --lib -- $(PROPERTY)

# Seconds for each target.
SECONDS ?= 60
fuzz: setup ## every fuzz target under libFuzzer for SECONDS (60), two at a time; FUZZ_SEED chooses another search
	@tools/fuzz $(SECONDS) "$(TARGET)"

lint: setup deny ## formatting, clippy with warnings denied (both feature sets), licences and sources
	cargo fmt --all --check
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --all-targets --features planted -- -D warnings
	cargo clippy --release --locked -p waystation-fuzz -- -D warnings

deny: ## licences, bans and sources of all dependencies; advisories when the database can be reached
	@tools/deny "$(TOOLS)"

package: setup ## the Debian package, under the target directory
	@tools/package "$(TOOLS)" "$(TARGET)"

package-test: setup venv package ## the package in a clean Debian root: installs, starts, upgrades, is removed (root)
	@tests/package/run "$(TOOLS)" "$(TARGET)"

sbom: setup ## the bill of materials (CycloneDX) of the shipped binary, under the target directory
	@tools/sbom "$(TOOLS)" "$(TARGET)/waystation.cdx.json"
	@echo "$(TARGET)/waystation.cdx.json"

bench: setup ## the micro-benches: head scan, edit, rules, P-DATA, commit
	@tools/swept cargo bench --locked

# ROUNDS, SECONDS for each figure, SIZES (5k,512k,32m,1g), ASSOCIATIONS (1,8,32; one number for relay and wan) and PEERS make it shorter
# or longer; docs/performance.md says the rest.
HOUSE := tools/swept env BENCH_SECONDS=$(if $(filter file,$(origin SECONDS)),,$(SECONDS)) cargo bench --locked --bench house --

# DISK=ext4 (ext4-nojournal, xfs): on a disk of its own, of GIB gibibytes, whose blocks were all written before (root).
GIB ?= 24
bench-peers: setup venv ## ingest against DCMTK, Orthanc, pynetdicom and the machine's limits; ROUNDS, SECONDS, SIZES, ASSOCIATIONS, PEERS, DISK, GIB
	@$(if $(DISK),tools/disk "$(DISK)" "$(GIB)" )$(HOUSE) peers

bench-relay: setup venv ## in, rules, commit, out over TLS: lag, throughput, processor time, memory; ROUNDS, SECONDS, SIZES, ASSOCIATIONS, PARTS
	@$(HOUSE) relay

# LINKS (Mbit/s and ms), CT and SMALL (instances), PEER_CT and PEER_SMALL (of those, for the slow peers), ROUNDS, PEERS.
bench-wan: setup venv ## a queue drained over 100 Mbit/s and 50 ms, and 20/150, against storescu, dcmsend and Orthanc: share of the link; LINKS, CT, SMALL, PEER_CT, PEER_SMALL, ASSOCIATIONS, ROUNDS, PEERS
	@$(HOUSE) wan

# JOBS (queued at the start), ENTRIES (due), CLAIMS (of eight each), SETTLES, ROUNDS. The queue is filled by a build with planted faults; the box
# that is measured is the ordinary one.
bench-backlog: build venv ## a million queued jobs: start to first accept and send; claims from five million due entries; memory; JOBS, ENTRIES, CLAIMS, SETTLES, ROUNDS
	@mkdir -p "$(TARGET)/measured" && cp "$(BINARY)" "$(TARGET)/measured/waystation"
	@BOX_BINARY="$(TARGET)/measured/waystation" tools/swept cargo bench --locked --features planted --bench house -- backlog

docs: ## the guides as HTML, under the target directory
	@tools/docs "$(TOOLS)" "$(TARGET)/book"
