#!/usr/bin/env bash
# Holds the dependencies against deny.toml, where cargo-deny is present: licences, sources and bans from what is on this machine, advisories only where
# their database can be fetched or was fetched before.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null 2>&1; then
  echo "cargo-deny is not here: the dependencies are not checked (cargo install --locked cargo-deny)"
  exit 0
fi
cargo deny --offline check licenses bans sources
if ! cargo deny check advisories; then
  if cargo deny --offline check advisories 2>&1 | grep -q 'failed to fetch\|not.*database'; then
    echo "the advisories' database cannot be had here: advisories are not checked"
  else
    exit 1
  fi
fi
