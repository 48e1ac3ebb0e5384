#!/usr/bin/env bash
# Lets promtool read and test the alert rules, where it is present. (Debian has it in the package prometheus, which starts a server and takes 330 MB, so
# it is not installed for this.) That the rules name only metrics that there are, a test of the daemon holds anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v promtool >/dev/null 2>&1; then
  echo "promtool is not here: the alert rules are not tested"
  exit 0
fi
promtool check rules monitoring/doorward.rules.yml
promtool test rules monitoring/doorward.rules.test.yml
