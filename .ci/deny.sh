#!/usr/bin/env bash
# Holds the dependencies against deny.toml, where cargo-deny is present: licences, bans and sources, and advisories where their database can be had.
# It takes a few seconds; cargo-deny itself is not installed for it, because that compiles for minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
  echo "cargo-deny is not here: the dependencies are not checked (cargo install --locked cargo-deny)"
  exit 0
fi
if ! cargo deny --config deny.toml --version >/dev/null 2>&1; then
  echo "cargo-deny is too old: the dependencies are not checked (0.20 is not)"
  exit 0
fi
manifests=(Cargo.toml gate/Cargo.toml fuzz/Cargo.toml)
# It reads the manifests of all crates in the lock files, those for other systems among them, which a build does not fetch.
for manifest in "${manifests[@]}"; do
  if ! cargo fetch --quiet --locked --manifest-path "$manifest"; then
    echo "crates of $manifest cannot be fetched here: the dependencies are not checked"
    exit 0
  fi
done
deny() { cargo deny --offline --log-level error --config deny.toml --manifest-path "$1" check --hide-inclusion-graph "${@:2}"; }
for manifest in "${manifests[@]}"; do
  echo "$manifest:"
  deny "$manifest" --allow license-not-encountered --allow license-exception-not-encountered --allow unmatched-skip licenses bans sources
done

# The database is a repository of its own: fetched, or as it was fetched before, or not there.
database=(cargo deny --config deny.toml)
if ! "${database[@]}" --log-level off fetch db >/dev/null 2>&1; then
  database+=(--offline)
  if ! compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then
    echo "the advisories' database cannot be had here: advisories are not checked"
    exit 0
  fi
fi
"${database[@]}" check advisories
