#!/usr/bin/env bash
# Lets systemd read what is in systemd/, where systemd is present, and looks how far the daemon is shut in. Usage: check-unit.sh BINARY
set -euo pipefail
cd "$(dirname "$0")/.."

# Exposure as `systemd-analyze security` reckons it, times ten: 4 is 0.4 of 10, and that is what it is.
most=4

if ! command -v systemd-analyze >/dev/null 2>&1; then
  echo "systemd-analyze is not here: the units are not checked"
  exit 0
fi
version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What `make install` would install; the unit names the installed command, which a machine that only builds does not have.
cp systemd/*.socket "$scratch"
sed "s|/usr/bin/doorward|$1|" systemd/doorward.service >"$scratch/doorward.service"
check() {
  local said
  said=$(SYSTEMD_UNIT_PATH="$scratch:" systemd-analyze verify --man=no "$scratch"/doorward.service "$scratch"/*.socket 2>&1) || {
    echo "$said"
    exit 1
  }
  # An unknown key is only a warning, and the code is 0.
  if [ -n "$said" ]; then
    echo "$said"
    exit 1
  fi
}
exposure() {
  systemd-analyze security --offline=true --threshold="$most" "$scratch/doorward.service" >"$scratch/security" || {
    cat "$scratch/security"
    exit 1
  }
  sed -n 's/^→ Overall exposure level for //p' "$scratch/security"
}
check
exposure
mkdir "$scratch/doorward.service.d"
cp systemd/pepper-credential.conf "$scratch/doorward.service.d/pepper.conf"
check
cp systemd/metrics-loopback.conf "$scratch/doorward.service.d/metrics.conf"
check
rm "$scratch/doorward.service.d/metrics.conf"
for since in 253 254; do
  if [ "$version" -ge "$since" ]; then
    cp "systemd/since/$since.conf" "$scratch/doorward.service.d"
    check
  else
    echo "this is systemd $version: the drop-in for $since and later is not checked"
  fi
done

# Into a root of its own: the users, the directories, and what `install` puts where.
root="$scratch/root"
mkdir -p "$root/etc" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
cp systemd/doorward.sysusers "$root/usr/lib/sysusers.d/doorward.conf"
cp systemd/doorward.tmpfiles "$root/usr/lib/tmpfiles.d/doorward.conf"
systemd-sysusers --root="$root" >/dev/null
grep -q '^doorward:' "$root/etc/passwd" && grep -q '^doorward-verify:.*doorward' "$root/etc/group"
if [ "$(id -u)" -eq 0 ]; then
  systemd-tmpfiles --root="$root" --create doorward.conf
  [ "$(stat -c '%a %u' "$root/run/doorward")" = "755 0" ] && [ "$(stat -c %a "$root/run/doorward/counters")" = 700 ]
fi
echo "units, users and directories: ok"
