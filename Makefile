# `make help` lists what there is. Everything is built in one profile, in one target directory outside the tree, so that RocksDB
# is compiled once for the daemon, its tests, its lints and its benches, and survives a `git clean`.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/doorward/target
DOORWARD := $(CARGO_TARGET_DIR)/release/doorward
FUZZ_SECONDS ?= 20
CRASH_KILLS ?= 1000
BENCH_KEYS ?= 1000000
# What `make install` installs. sudo has another home than who has built: the newer of the two, unless CARGO_TARGET_DIR is said.
CALLERS = $(if $(filter file,$(origin CARGO_TARGET_DIR)),$(if $(SUDO_USER),$(shell getent passwd $(SUDO_USER) | cut -d: -f6)/.cache/doorward/target/release/doorward))
BUILT = $(shell ls -t $(DOORWARD) $(CALLERS) 2>/dev/null | head -n 1)
# Of the machine that it is installed on; say it where that is another.
SYSTEMD_VERSION ?= $(shell systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p' | grep . || echo 0)

# libFuzzer needs the coverage counters; these flags make them without a nightly compiler.
FUZZ_FLAGS := --cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help tools build demo test lint unit gate accept-counts crash corruption crash-usage bench bench-redis fuzz-smoke install clean

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

tools: ## Look for clang and libclang, and install them where that is allowed.
	@.ci/tools.sh

build: tools ## Build the daemon and command: $CARGO_TARGET_DIR/release/doorward.
	cargo build --release --locked

demo: build ## Watch the daemon verify real web traffic: keys of several accounts, a rotation and a revocation while it runs.
	@tests/demo.sh $(DOORWARD)

test: lint ## Every check and test: format, lints, unit, black-box and doc tests, the gate, the build without the store, each fuzz target for 5 seconds, scripts, units, alert rules.
	cargo test --release --locked
	@$(MAKE) --no-print-directory gate
	cargo check --release --locked --lib --no-default-features
	cargo check --release --locked --lib --no-default-features --features wire
	@$(MAKE) --no-print-directory fuzz-smoke FUZZ_SECONDS=5
	bash -n .ci/run .ci/tools.sh .ci/check-unit.sh .ci/deny.sh .ci/check-rules.sh tests/demo.sh
	.ci/deny.sh
	.ci/check-unit.sh $(DOORWARD)
	.ci/check-rules.sh

lint: tools ## Only the format and the lints.
	@.ci/tools.sh rustfmt clippy
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	cd gate && cargo fmt --check
	cd fuzz && cargo fmt --check

gate: tools ## Count the instructions of each step of the verify path, and hold them against gate/counts.toml.
	@.ci/tools.sh valgrind
	cd gate && cargo clippy --release --locked --all-targets -- -D warnings && cargo test --release --locked && cargo run --release --locked

accept-counts: tools ## Write what the gate counts now into gate/counts.toml; the commit says why it changed.
	@.ci/tools.sh valgrind
	cd gate && cargo run --release --locked -- --accept

# Three clients ask in batches of all sizes while the daemon is killed at a random moment (2 to 252 ms after they began), again and again; every third
# time it is killed once more while it takes over what was left. At the end the sum of each key is at least what its clients were answered and at most
# that and what was in flight at the kills. Planted once: with the mark of what is written (`usage_written`) a millisecond behind its rows, it failed within 100 kills.
crash-usage: tools ## Count, kill, compare: DOORWARD_KILLS (default 2000) SIGKILLs under load against what the clients were answered.
	DOORWARD_KILLS=$(or $(DOORWARD_KILLS),2000) cargo test --release --locked --test black_box usage_after_sigkill -- --nocapture

bench: build ## The benches: the whole, with a million keys, and each step. On an otherwise idle machine.
	$(DOORWARD) bench --keys $(BENCH_KEYS)
	cargo bench --locked --bench steps

bench-redis: build ## doorward beside redis-server, on the same kind of socket, with the same keys.
	@.ci/tools.sh redis-server
	cargo bench --locked --bench redis -- --keys $(BENCH_KEYS)

crash: tools ## SIGKILL (CRASH_KILLS times, default 1000), power failures, failing writes: what is then there against what was acknowledged. DOORWARD_CRASH_SEED=N repeats a run.
	DOORWARD_CRASH_KILLS=$(CRASH_KILLS) DOORWARD_POWER_FAILURES=3000 DOORWARD_FAULTS=1 cargo test --release --locked --test crash -- --nocapture --test-threads 1 kills power failing

corruption: tools ## Change each byte of a small store, and see that it is exact or refused. Takes long.
	DOORWARD_FLIPS=0 cargo test --release --locked --test crash corruption -- --nocapture

fuzz-smoke: tools ## Fuzz each target for FUZZ_SECONDS (default 20), without a nightly compiler or cargo-fuzz.
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked --target $(HOST)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && set -e && for target in fuzz/fuzz_targets/*.rs; do \
		name=$$(basename $$target .rs); mkdir $$scratch/$$name; \
		$(CARGO_TARGET_DIR)/$(HOST)/release/$$name -max_total_time=$(FUZZ_SECONDS) -max_len=70000 -timeout=20 -malloc_limit_mb=512 \
			-artifact_prefix=fuzz/artifacts-$$name- $$scratch/$$name fuzz/corpus/$$name >$$scratch/log 2>&1 || { cat $$scratch/log; exit 1; }; \
		echo "$$name: $$(grep -o 'DONE.*corp' $$scratch/log | sed 's/DONE *//; s/ corp//'), $$(tail -n 1 $$scratch/log | sed 's/^Done //')"; \
	done

install: ## Install the built command, the units and the pages (as root, after `make build`); see docs/operations.md for what comes next.
	@[ -n "$(BUILT)" ] || { echo "doorward: $(DOORWARD) is not there: make build; built elsewhere, it is sudo make install CARGO_TARGET_DIR=DIR" >&2; exit 1; }
	install -D -m 0755 $(BUILT) $(DESTDIR)/usr/bin/doorward
	for unit in doorward.service doorward-verify.socket doorward-admin.socket; do \
		install -D -m 0644 systemd/$$unit $(DESTDIR)/usr/lib/systemd/system/$$unit || exit 1; \
	done
	for since in 253 254; do \
		dropin=$(DESTDIR)/usr/lib/systemd/system/doorward.service.d/$$since.conf; rm -f $$dropin; \
		if [ "$(SYSTEMD_VERSION)" -ge $$since ]; then install -D -m 0644 systemd/since/$$since.conf $$dropin || exit 1; fi; \
	done
	install -D -m 0644 systemd/doorward.sysusers $(DESTDIR)/usr/lib/sysusers.d/doorward.conf
	install -D -m 0644 systemd/doorward.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/doorward.conf
	install -d -m 0755 $(DESTDIR)/usr/share/doc/doorward/guides
	install -m 0644 docs/*.md systemd/pepper-credential.conf systemd/metrics-loopback.conf systemd/give-way.conf $(DESTDIR)/usr/share/doc/doorward
	install -m 0644 docs/guides/*.md $(DESTDIR)/usr/share/doc/doorward/guides

clean: ## Remove what was built, RocksDB included.
	cargo clean
