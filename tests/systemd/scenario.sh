#!/usr/bin/env bash
# What happens in the machine: /opt/scenario/which says which part.
set -u
export XDG_RUNTIME_DIR=/run/user/1500 ANTHROPIC_API_KEY=key IS_SANDBOX=1
export FAKE_DIR=/opt/fake FAKE_CLAUDE=/opt/fake/script CLAUDE_SKILL_CLAUDE=/usr/local/bin/fake-claude
export CLAUDE_SKILL_STAGGER=0 CLAUDE_SKILL_RETRIES=0
systemctl is-system-running --wait >/dev/null

dev() { setpriv --reuid=1500 --regid=1500 --init-groups env HOME=/home/dev "$@"; }
admin() { env -u XDG_RUNTIME_DIR HOME=/root "$@"; }
met() { if [ "$2" = "$3" ]; then echo "met: $1: $2"; else echo "MISSED: $1: $2, not $3"; fi; }
until_true() { for _ in $(seq 200); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.05; done; }
statuses() { "$@" claudejob list --all | jq -r '[.[].status] | sort | join(" ")'; }
script() { printf '%s\n' "$@" >/opt/fake/script; chmod 666 /opt/fake/script; }
left() { pgrep -f -- 'fake-claude|claudejob worker' | wc -l; }

# A unit's text: name of the jobs, KillMode, home, further lines.
unit() {
  printf '[Service]\nEnvironment=TAG=%s HOME=%s ANTHROPIC_API_KEY=key IS_SANDBOX=1 FAKE_DIR=/opt/fake FAKE_CLAUDE=/opt/fake/script CLAUDE_SKILL_CLAUDE=/usr/local/bin/fake-claude CLAUDE_SKILL_STAGGER=0 CLAUDE_SKILL_RETRIES=0\nExecStart=/opt/scenario/gateway.sh\nKillMode=%s\n%b' "$1" "$3" "$2" "${4-}"
}

# restarted AS HOME NAME SYSTEMCTL...: starts the service, restarts it, and looks at its jobs.
restarted() {
  local as=$1 home=$2 name=$3; shift 3
  rm -rf "$home/count" "$home/.local" /opt/fake/go
  script read init 'spawn-clean $DIR/child' 'wait-file $DIR/go' 'result ok' eof
  "$@" start gateway
  until_true test -e "$home/count"
  "$@" restart gateway
  met "$name, after its restart" "$(statuses "$as")" "running running running"
  met "$name, detached by" "$("$as" claudejob status "$name-1" | jq -r .detached.by)" scope
  touch /opt/fake/go
  for n in 1 2 3; do "$as" claudejob wait "$name-$n" --timeout 20s >/dev/null; done
  met "$name, at the end" "$(statuses "$as")" "completed completed completed"
  "$@" stop gateway
  met "$name, processes left" "$(left)" 0
}

restarts() {
  local mode user=/home/dev/.config/systemd/user
  for mode in control-group mixed; do
    mkdir -p "$user"
    unit "user-$mode" "$mode" /home/dev >"$user/gateway.service"
    chown -R dev: /home/dev
    dev systemctl --user daemon-reload
    restarted dev /home/dev "user-$mode" dev systemctl --user
    unit "system-$mode" "$mode" /root >/etc/systemd/system/gateway.service
    systemctl daemon-reload
    restarted admin /root "system-$mode" systemctl
    unit "as-dev-$mode" "$mode" /home/dev 'User=dev\n' >/etc/systemd/system/gateway.service
    systemctl daemon-reload
    restarted dev /home/dev "as-dev-$mode" systemctl
  done

  # Without a manager within reach there is a warning, and it comes true.
  rm -rf /home/dev/count /home/dev/log /home/dev/.local /opt/fake/go
  loginctl disable-linger dev
  until_true test ! -e /run/user/1500
  systemctl start gateway
  until_true test -e /home/dev/count
  met "no linger, warned" "$(head -n 1 /home/dev/log | jq '.warnings | length > 0')" true
  met "no linger, detached by" "$(dev claudejob status as-dev-mixed-1 | jq -r .detached.by)" session
  systemctl restart gateway
  met "no linger, after its restart" "$(statuses dev)" "failed failed failed"
  met "no linger, reason" "$(dev claudejob status as-dev-mixed-1 | jq -r '.reason + " " + .hint')" \
    "$(dev claudejob status as-dev-mixed-1 | jq -r .reason) claudejob recover as-dev-mixed-1"
  systemctl stop gateway
  loginctl enable-linger dev
  until_true test -e /run/user/1500/systemd/private

  # The end of a job in a scope: of one that is killed, and of one that lost its worker.
  rm -rf /home/dev/.local
  script read init 'spawn-clean $DIR/child' 'touch $DIR/up' hang
  for n in 1 2; do
    rm -f /opt/fake/up
    dev claudejob start "scoped-$n" --cwd / --prompt work --detach scope >/dev/null
    until_true test -e /opt/fake/up
  done
  met "kill of a job in a scope" "$(dev claudejob kill scoped-1 | jq -r .killed)" true
  kill -KILL "$(dev claudejob status scoped-2 | jq .pid)"
  sleep 0.2
  met "a job in a scope without its worker" "$(dev claudejob status scoped-2 | jq -r .reason)" worker_died
  met "processes left, with no parent and no environment" "$(left)" 0
  met "units left" "$(dev systemctl --user list-units --all --plain --no-legend 'claudejob-*' | wc -l)" 0
  script read init 'result ok' eof
  local began ended
  for how in session scope; do
    began=$(date +%s%N)
    for _ in $(seq 20); do dev claudejob start --cwd / --prompt work --detach "$how" >/dev/null; done
    ended=$(date +%s%N)
    echo "measured: a start by --detach $how takes $(((ended - began) / 20000)) us, setpriv included"
  done
  began=$(date +%s%N)
  for _ in $(seq 20); do dev systemd-run --user --scope --quiet --collect true; done
  ended=$(date +%s%N)
  echo "measured: systemd-run alone takes $(((ended - began) / 20000)) us, setpriv included"
}

# A job whose memory is limited: as the system's user, and as one with a systemd of its own. Where
# the kernel has no such limit in this tree, the job says so.
memory() {
  local as unit limit
  printf '#!/bin/sh\nread line\necho %s\ntail /dev/zero\n' \
    "'{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}'" >/opt/fake/hog
  chmod 755 /opt/fake/hog
  for as in admin dev; do
    rm -rf /home/dev/.local /root/.local
    script read init 'touch $DIR/up' hang
    rm -f /opt/fake/up
    "$as" claudejob start limited --cwd / --prompt work --memory-max 100M >/dev/null
    until_true test -e /opt/fake/up
    unit=$("$as" claudejob status limited | jq -r .detached.unit)
    limit=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$("$as" claudejob status limited | jq .pid)/cgroup")/memory.max
    if [ "$as" = dev ]; then set -- dev systemctl --user; else set -- systemctl; fi
    met "$as: systemd's limit" "$("$@" show -p MemoryMax "$unit")" MemoryMax=104857600
    if [ -e "$limit" ]; then
      met "$as: the kernel's limit" "$(cat "$limit")" 104857600
      met "$as: warnings" "$("$as" claudejob status limited | jq -c .warnings)" '[]'
      "$as" claudejob start hog --cwd / --prompt work --memory-max 100M --claude /opt/fake/hog >/dev/null
      "$as" claudejob wait hog --timeout 30s >/dev/null
      met "$as: what takes too much" "$("$as" claudejob status hog | jq -r '.reason')" no_result
    else
      met "$as: warnings, of a kernel without the limit" \
        "$("$as" claudejob status limited | jq -r '.warnings[0]' | grep -c 'has no effect')" 1
    fi
    met "$as: killed" "$("$as" claudejob kill limited | jq .killed)" true
  done
}

before-reboot() {
  rm -rf /home/dev/.local /opt/fake/go
  script session read init 'work 3' 'touch $DIR/up' hang
  for n in 1 2 3; do
    rm -f /opt/fake/up
    dev claudejob start "boot-$n" --cwd / --prompt work >/dev/null
    until_true test -e /opt/fake/up
  done
  met "before the power is cut" "$(statuses dev)" "running running running"
  touch /opt/scenario/cut
  sleep infinity
}

after-reboot() {
  met "after the boot" "$(dev claudejob list | jq -r '[.[].reason] | join(" ")')" \
    "host_restarted host_restarted host_restarted"
  script session read init 'work 6' 'result ok' eof
  met "recover --all" "$(dev claudejob recover --all | jq -c '[.recovered, .failed | length]')" '[3,0]'
  for n in 1 2 3; do dev claudejob wait "boot-$n" --timeout 20s >/dev/null; done
  met "recovered" "$(statuses dev)" "completed completed completed"
  met "steps done" "$(cat /opt/fake/work/* | sort | uniq -c | awk '{print $1}' | xargs)" "3 3 3 3 3 3"
}

# The same with the unit that docs/restarts.md names, and nobody who calls it.
before-unit() {
  local units=/home/dev/.config/systemd/user settings=/home/dev/.config/claudejob
  mkdir -p "$units" "$settings"
  cp /opt/scenario/claudejob-recover.service "$units/"
  env | grep -E '^(ANTHROPIC_API_KEY|IS_SANDBOX|FAKE_|CLAUDE_SKILL_)' >"$settings/environment"
  chown -R dev: /home/dev
  dev systemctl --user daemon-reload
  dev systemctl --user -q enable claudejob-recover
  rm -f /opt/fake/up
  script session read init 'work 3' 'touch $DIR/up' hang
  dev claudejob start unit-1 --cwd / --prompt work >/dev/null
  until_true test -e /opt/fake/up
  script session read init 'work 6' 'wait-file $DIR/go' 'result ok' eof
  rm -f /opt/fake/go
  touch /opt/scenario/cut
  sleep infinity
}

after-unit() {
  until_true eval 'dev claudejob status unit-1 | jq -e ".status == \"running\" and .attempt == 2"'
  met "recovered by the unit" "$(dev claudejob status unit-1 | jq -r '.status, .detached.by' | xargs)" "running scope"
  touch /opt/fake/go
  dev claudejob wait unit-1 --timeout 20s >/dev/null
  met "and completed" "$(dev claudejob status unit-1 | jq -r .status)" completed

  # A shutdown is no power cut: everything gets a SIGTERM, and has said so by the next boot.
  script session read init 'work 1' 'touch $DIR/up' hang
  rm -f /opt/fake/up
  dev systemctl --user -q disable claudejob-recover
  dev claudejob start shut-1 --cwd / --prompt work >/dev/null
  until_true test -e /opt/fake/up
  echo "met: a shutdown: begins"
}

after-shutdown() {
  met "after a shutdown" "$(dev claudejob status shut-1 | jq -r '.reason, .hint' | xargs)" \
    "terminated claudejob recover shut-1 to go on with it"
  echo "met: the end: reached"
}

mkdir -p /opt/fake/work /opt/fake/sessions
chmod -R 777 /opt/fake
part=$(cat /opt/scenario/which)
[ "$part" = before-reboot ] || [ "$part" = restarts ] && { rm -rf /opt/fake/work/* /opt/fake/sessions/*; }
"$part"
