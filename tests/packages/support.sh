# Functions of the tests in this folder, which source it in the root of the repository.
# shellcheck shell=bash

fail() {
  echo "FAILED: $1" >&2
  exit 1
}

# `expect TEXT COMMAND...`: the command must succeed.
expect() {
  local text=$1
  shift
  "$@" || fail "$text: $*"
  echo "ok: $text"
}

# Succeeds if a folder contains one entry.
one_entry() {
  local entries=("$1"/*)
  [ "${#entries[@]}" = 1 ] && [ -e "${entries[0]}" ]
}

now_ms() {
  python3 -c 'import time; print(time.time_ns() // 1000000)'
}

# Waits for a file, for at most a minute.
await() {
  local tries=0
  until [ -e "$1" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || fail "$1 did not appear"
    sleep 0.1
  done
}

# Prints a field of a job's status.
field() {
  claudejob --json status "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"
}

# Prints the median time of a command in milliseconds.
median() {
  python3 - "$@" <<'PYTHON'
import subprocess, sys, time

times = []
for _ in range(41):
    began = time.perf_counter()
    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
    times.append(time.perf_counter() - began)
print(f"{sorted(times)[20] * 1000:.1f}")
PYTHON
}

# Serves a folder on loopback, as an npm registry if it contains tarballs. Sets `server`.
start_server() {
  python3 tests/packages/registry.py "$1" "$folder/port" >/dev/null </dev/null &
  server_pid=$!
  await "$folder/port"
  # shellcheck disable=SC2034
  server=http://127.0.0.1:$(cat "$folder/port")
}

# Waits until a file contains a text, for at most a minute.
await_text() {
  local tries=0
  until grep -q "$2" "$1" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || fail "$1 did not contain '$2'"
    sleep 0.1
  done
}

# Writes a `claude` that touches `begun`, waits for a file `go` and then answers. It writes what it is told meanwhile
# to `heard`.
make_claude() {
  cat >"$1" <<'CLAUDE'
#!/bin/sh
case "$*" in
  *--version*) echo "2.1.197 (Claude Code)" && exit ;;
  *--help*) exit ;;
esac
id=00000000-0000-4000-8000-000000000001
read -r prompt
printf '{"type":"system","subtype":"init","session_id":"%s","model":"none","cwd":"/","tools":[]}\n' $id
exec 3<&0
cat <&3 >heard &
touch begun
until [ -e go ]; do sleep 0.1; done
printf '{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1,"total_cost_usd":0,"session_id":"%s"}\n' $id
wait
CLAUDE
  chmod +x "$1"
}

# Adds version 99.0.0 of the packages in a folder, with this program.
publish_newer() {
  local registry=$1 program=$2 tarball
  mkdir "$folder/newer"
  for tarball in "$registry"/*.tgz; do
    rm -rf "$folder/newer/package"
    tar -xzf "$tarball" -C "$folder/newer"
    sed -i -E 's/("version"|"@claudejob\/[a-z0-9-]+"): "[0-9.]+"/\1: "99.0.0"/' "$folder/newer/package/package.json"
    if grep -q '"os": \["linux"\]' "$folder/newer/package/package.json"; then
      install -m 755 "$program" "$folder/newer/package/bin/claudejob"
    fi
    (cd "$folder/newer/package" && npm pack --silent --ignore-scripts --pack-destination "$registry" >/dev/null)
  done
}

folder=$(mktemp -d)
server_pid=
clean_up() {
  [ -z "$server_pid" ] || kill "$server_pid" || true
  local job
  for job in "$folder"/jobs/*/; do
    CLAUDE_SKILL_JOBS_DIR=$folder/jobs "${saved:-claudejob}" kill "$(basename "$job")" >/dev/null 2>&1 || true
  done
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP
