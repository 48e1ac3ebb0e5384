#!/usr/bin/env bash
# Lets systemd read the unit, where systemd is present. Usage: check-unit.sh BINARY
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v systemd-analyze >/dev/null 2>&1; then
  echo "systemd-analyze is not here: the unit is not checked"
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The unit names the installed command, which a machine that only builds does not have.
sed "s|/usr/bin/doorward|$1|" systemd/doorward.service >"$scratch/doorward.service"
systemd-analyze verify --man=no "$scratch/doorward.service"
systemd-analyze security --offline=true --threshold=20 "$scratch/doorward.service" >"$scratch/security" || {
  cat "$scratch/security"
  exit 1
}
tail -n 1 "$scratch/security"
