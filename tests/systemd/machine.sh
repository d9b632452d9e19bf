# Functions of the tests with a machine, which source it in the root of the repository.
# shellcheck shell=bash

# Makes a small Debian with a user `dev` whose systemd runs without a login: `make_machine FOLDER PACKAGES`. Sets `machine`
# and `root`. The machine runs /opt/scenario/scenario.sh and powers itself off. Nothing is done if it exists with these packages.
make_machine() {
  machine=$1
  root=$machine/root
  local program mirror
  for program in debootstrap systemd-nspawn; do
    command -v "$program" >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap systemd-container >/dev/null; }
  done
  if [ -e "$machine/made" ] && [ "$(cat "$machine/made")" = "$2" ]; then
    return
  fi
  rm -rf "$machine" && mkdir -p "$machine"
  mirror=${DEBIAN_MIRROR:-$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 || true)}
  debootstrap --variant=minbase --include="systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,procps,jq${2:+,$2}" \
    bookworm "$root" "${mirror:-http://deb.debian.org/debian}" >"$machine/debootstrap.log"
  chroot "$root" useradd --create-home --uid 1500 --shell /bin/bash dev
  mkdir -p "$root/var/lib/systemd/linger" "$root/opt/scenario"
  touch "$root/var/lib/systemd/linger/dev"
  cp tests/systemd/scenario.service "$root/etc/systemd/system/"
  chroot "$root" systemctl -q enable scenario.service
  chroot "$root" systemctl -q mask console-getty.service getty@tty1.service
  printf '%s' "$2" >"$machine/made"
}

descendants() {
  local child
  for child in $(pgrep -P "$1"); do
    descendants "$child"
    echo "$child"
  done
}

# Boots the machine, runs a part of the scenario, prints what it printed, and waits for the machine's end: `boot PART SECONDS
# [OPTION...]`, with options for systemd-nspawn.
boot() {
  local part=$1 seconds=$2
  shift 2
  printf '%s\n' "$part" >"$root/opt/scenario/which"
  rm -f "$root/opt/scenario/out" "$root/opt/scenario/cut"
  timeout "$seconds" systemd-nspawn --quiet --register=no --keep-unit --boot -D "$root" --console=pipe "$@" \
    >"$machine/boot.log" 2>&1 </dev/null &
  local pid=$!
  # The machine's processes would outlive this script, and the next one would find them at work in its files.
  trap 'descendants '"$pid"' | xargs -r kill -KILL' EXIT
  trap 'exit 1' INT TERM HUP
  while kill -0 "$pid" 2>/dev/null; do
    if [ -e "$root/opt/scenario/cut" ]; then
      # The power is cut: nobody in there gets a signal, a goodbye or a sync. Killing the machine's
      # first process ends all the others.
      descendants "$pid" | xargs kill -KILL 2>/dev/null || true
    fi
    sleep 0.2
  done
  wait "$pid" 2>/dev/null || true
  trap - EXIT
  cat "$root/opt/scenario/out"
}

# Fails if an expectation was not met.
judge() {
  if grep '^MISSED' "$1" >&2; then
    echo "not everything was as expected" >&2
    exit 1
  fi
}
