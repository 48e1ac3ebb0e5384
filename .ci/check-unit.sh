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

# What `make install` installs. As under sudo: what is built is in the caller's home, and not in root's.
mkdir -p "$scratch/path" "$scratch/caller/.cache/doorward/target/release"
ln -s "$(realpath "$1")" "$scratch/caller/.cache/doorward/target/release/doorward"
printf '#!/bin/sh\necho "caller:x:1:1::%s:/bin/sh"\n' "$scratch/caller" >"$scratch/path/getent"
chmod +x "$scratch/path/getent"
root="$scratch/root"
install_as() { env -u CARGO_TARGET_DIR -u MAKEFLAGS -u MAKELEVEL HOME="$scratch" PATH="$scratch/path:$PATH" "$@" make --no-print-directory -s install DESTDIR="$root"; }
if install_as -u SUDO_USER >/dev/null 2>&1; then
  echo "make install: installed what nobody has built"
  exit 1
fi
install_as SUDO_USER=caller
cmp -s "$1" "$root/usr/bin/doorward" || { echo "make install: what was built is not what is installed"; exit 1; }
installed="$root/usr/lib/systemd/system"
# The unit names the installed command, which a machine that only builds does not have.
cp "$installed"/*.socket "$scratch"
sed "s|/usr/bin/doorward|$1|" "$installed/doorward.service" >"$scratch/doorward.service"
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
cp "$root/usr/share/doc/doorward/pepper-credential.conf" "$scratch/doorward.service.d/pepper.conf"
check
cp "$root/usr/share/doc/doorward/metrics-loopback.conf" "$scratch/doorward.service.d/metrics.conf"
cp "$root/usr/share/doc/doorward/give-way.conf" "$scratch/doorward.service.d"
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

# In that root: the users, and the directories.
mkdir -p "$root/etc"
systemd-sysusers --root="$root" >/dev/null
grep -q '^doorward:' "$root/etc/passwd" && grep -q '^doorward-verify:.*doorward' "$root/etc/group"
if [ "$(id -u)" -eq 0 ]; then
  systemd-tmpfiles --root="$root" --create doorward.conf
  [ "$(stat -c '%a %u' "$root/run/doorward")" = "755 0" ] && [ "$(stat -c %a "$root/run/doorward/counters")" = 700 ]
fi
echo "units, users and directories: ok"
