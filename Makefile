# The front door. `make help` lists the targets; recipes beyond ten lines live in scripts/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What is built and fetched lives outside the clone and is shared between clones.
export STRATA_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/strata
export CARGO_TARGET_DIR ?= $(STRATA_CACHE)/target
export PATH := $(STRATA_CACHE)/bin:$(PATH)

.PHONY: help run binary image test torture fuzz fuzz-guards e2e cluster cluster-down peer vm-test vm-guards vagrant-run vagrant-binary vagrant-suite vagrant-test reproducible check bench all fmt

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Shows it: plays the kubelet with a real registry and image; IMAGE=reference takes your own image
	@scripts/install run
	@scripts/run

binary: ## Builds the one static binary for release and prints its path
	@scripts/build-binary

image: ## Builds the container image with Strata itself and prints where it is; PUSH=registry/name:tag sends it there
	@scripts/build-image

test: ## Runs the tests, as root, and ends with counts (installs the peer tools that it needs)
	@scripts/install test
	@scripts/run-tests

torture: ## Strata and the Go tools at once on one store: N=operations SEED=of-a-plan WITHOUT=locks to leave out in turn
	@scripts/install test
	@TORTURE_OPERATIONS=$(N) TORTURE_SEED=$(SEED) TORTURE_WITHOUT=$(or $(WITHOUT),$(TORTURE_WITHOUT)) \
		scripts/run-tests --features fault --test torture -- --nocapture --test-threads 1

fuzz: ## Fuzzes what reads strangers' bytes, TIME=20 seconds a target, from the kept corpus, and prints what was covered
	@scripts/install fuzz
	@FUZZ_SECONDS=$(or $(TIME),$(FUZZ_SECONDS)) scripts/run-fuzz $(TARGETS)

fuzz-guards: ## Shows that each fuzz target finds a planted bug within its minute
	@scripts/install fuzz
	@scripts/run-fuzz --planted $(TARGETS)

e2e: ## Runs the tests in a real Kubernetes cluster of one node, as root (builds it once: eight minutes)
	@scripts/install e2e
	@scripts/run-e2e

cluster: ## Starts such a cluster with this Strata in its registry, and says what to type next
	@scripts/install e2e
	@scripts/start-cluster

cluster-down: ## Ends it
	@tests/e2e/cluster/down

peer: ## Runs the tests with other people's tools alone: containers-storage, podman, buildah, skopeo, csi-sanity
	@scripts/install test
	@scripts/run-tests --test peer

vm-test: ## Runs tests in a virtual machine with Debian's kernel: quotas, cgroup v2, reboots, power cuts
	@scripts/install vm
	@scripts/run-vm-tests

vm-guards: ## Shows that the tests of lost power notice a missing sync
	@scripts/install vm
	@scripts/run-vm-tests guards

vagrant-run: ## Builds the binary and the tests here, on Debian 12 as there, and runs them in the machine that `vagrant up` has made
	@scripts/vagrant-run

vagrant-binary: ## Builds the binary inside that machine, which gets Rust by rustup
	@scripts/vagrant-make binary

vagrant-suite: ## Builds and runs every test inside it
	@scripts/install test-programs
	@scripts/vagrant-make test

reproducible: ## Shows that two builds of this commit, in different places, are equal to the byte: binary and image
	@scripts/check-reproducible $(if $(QUICK),quick)

vagrant-test: ## Makes such a machine for real, with libvirt, runs the binary in it and destroys it
	@scripts/install vagrant vm
	@scripts/vagrant-test

check: ## Format, lints, dependencies, spelling, documents, walls: what a change must pass before its tests
	@scripts/install check
	@scripts/check

bench: ## Measures against the bare system calls and the peers, and prints the table (BENCH=quick tries it)
	@scripts/install bench
	@scripts/run-bench $(BENCH)

all: export VM_ROUNDS ?= 12
all: export VM_POINTS ?= every
all: export VM_TIMEOUT ?= 1800
all: export FUZZ_SECONDS ?= 120
all: export STRATA_CRASH_WHOLE ?= 1
all: export TORTURE_WITHOUT ?= layers.lock,images.lock,containers.lock
all: check run test fuzz fuzz-guards vm-test vm-guards e2e vagrant-test reproducible bench ## All of the above, whole

fmt: ## Formats the code
	@cargo fmt
