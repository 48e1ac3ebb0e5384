#!/usr/bin/env bash
# Looks for what the build needs beside cargo, installs it where that is allowed, else says in one line what to install.
# Usage: tools.sh [rustfmt] [clippy] [redis-server] [valgrind]     with these, they are looked for too
set -euo pipefail

fail() {
  printf 'doorward: %s\n' "$1" >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# bindgen, which reads RocksDB's header, looks in the same places.
has_libclang() {
  local directory file
  for directory in "${LIBCLANG_PATH:-}" /usr/lib/llvm-*/lib /usr/lib64 /usr/lib /usr/lib/*-linux-gnu /usr/local/lib "$(llvm-config --libdir 2>/dev/null || true)"; do
    [ -n "$directory" ] || continue
    for file in "$directory"/libclang.so "$directory"/libclang-*.so "$directory"/libclang.so.* "$directory"/libclang-*.so.*; do
      if [ -e "$file" ]; then return 0; fi
    done
  done
  return 1
}

has cargo || fail "cargo is missing: install Rust from https://rustup.rs, then open a new shell"

missing=()
if ! has clang || ! has clang++; then missing+=(clang); fi
if ! has_libclang; then missing+=(libclang-dev); fi
if ! has cc; then missing+=(gcc libc6-dev); fi

# Debian starts a server of its own after the installation where systemd runs; nothing here needs that one.
for wanted in "$@"; do
  case "$wanted" in
    redis-server | valgrind) if ! has "$wanted"; then missing+=("$wanted"); fi ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
  if ! has apt-get || ! "${as_root[@]}" true 2>/dev/null; then
    fail "please install: ${missing[*]} (on Debian: sudo apt-get install ${missing[*]})"
  fi
  echo "doorward: installing ${missing[*]}"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  install=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}")
  # An image without package lists has to fetch them first.
  if ! "${as_root[@]}" "${install[@]}" >"$log" 2>&1; then
    if ! { "${as_root[@]}" apt-get -q update && "${as_root[@]}" "${install[@]}"; } >"$log" 2>&1; then
      tail -n 5 "$log" >&2
      fail "apt-get could not install: ${missing[*]}"
    fi
  fi
fi

for component in "$@"; do
  case "$component" in
    rustfmt) probe=(cargo fmt --version) ;;
    redis-server | valgrind) continue ;;
    clippy) probe=(cargo clippy --version) ;;
    *) fail "tools.sh: unknown component '$component'" ;;
  esac
  if "${probe[@]}" >/dev/null 2>&1; then continue; fi
  if ! has rustup || ! rustup component add "$component" >/dev/null 2>&1; then
    fail "please install the Rust component $component (rustup component add $component)"
  fi
done
