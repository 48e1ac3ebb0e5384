#!/usr/bin/env bash
# Lets promtool read and test the alert rules. Debian has it in the package prometheus, whose installation would start a server and take 330 MB with what
# it depends on; so where it is not installed, it alone is taken out of that package, and kept beside what cargo builds. Where there is no such package, the rules are not
# tested here. (That they name only metrics that there are, a test of the daemon holds anywhere.)
set -euo pipefail
cd "$(dirname "$0")/.."

kept="${CARGO_TARGET_DIR:-$HOME/.cache/doorward/target}/promtool"

# Prints where it is.
fetch() {
  local folder
  command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
  folder=$(mktemp -d)
  if (cd "$folder" && apt-get -q download prometheus && dpkg-deb -x prometheus_*.deb out) >"$folder/log" 2>&1; then
    mkdir -p "$(dirname "$kept")"
    mv "$folder/out/usr/bin/promtool" "$kept"
  fi
  rm -rf "$folder"
  [ -x "$kept" ] && "$kept" --version >/dev/null 2>&1
}

if command -v promtool >/dev/null 2>&1; then
  promtool=promtool
elif [ -x "$kept" ] || fetch; then
  promtool=$kept
else
  echo "promtool is not here, and apt-get does not give it: the alert rules are not tested"
  exit 0
fi
"$promtool" check rules monitoring/doorward.rules.yml
"$promtool" test rules monitoring/doorward.rules.test.yml
