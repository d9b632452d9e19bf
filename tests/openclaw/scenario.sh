#!/usr/bin/env bash
# What happens in the machine: /opt/scenario/which says which parts. `setup` comes first; each of the
# others can be left out.
set -u
# The agent's session: not the main one, to which an event without a key would go.
KEY=agent:main:work
PORT=18789
SCENARIO=/opt/scenario
WORK=/home/dev/work
export XDG_RUNTIME_DIR=/run/user/1500
systemctl is-system-running --wait >/dev/null

# Runs a command as the user would in a terminal.
dev() {
  (cd /home/dev && setpriv --reuid=1500 --regid=1500 --init-groups env -i HOME=/home/dev USER=dev LOGNAME=dev \
    SHELL=/bin/bash LANG=C.UTF-8 XDG_RUNTIME_DIR=/run/user/1500 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1500/bus \
    PATH=/home/dev/.npm-global/bin:/usr/local/bin:/usr/bin:/bin "$@")
}
gateway() { dev systemctl --user "$1" openclaw-gateway; }
met() { if [ "$2" = "$3" ]; then echo "met: $1: $2"; else echo "MISSED: $1: $2, not $3"; fi; }
now() { date +%s; }

# Waits until a command succeeds: `until_true SECONDS COMMAND...`. Fails when the time is over.
until_true() {
  local end=$(($(now) + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(now)" -lt "$end" ] || return 1
    sleep 0.3
  done
}

is_ready() { python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$PORT/readyz')"; }
await_gateway() {
  until_true 180 is_ready || {
    echo "MISSED: the gateway is not ready"
    exit 1
  }
}

# Makes the folder of a job with the script of its claude: `workplace ID STEP...`
workplace() {
  local folder=$WORK/$1
  shift
  mkdir -p "$folder/work" "$folder/sessions"
  printf '%s\n' "$@" >"$folder/script"
  chown -R dev: "$WORK"
}

# Prints the command by which an agent starts a job: `start_command ID [OPTION...]`
start_command() {
  local id=$1
  shift
  printf "claudejob start --job-id %s --if-absent --cwd %s/%s --wake 'openclaw:\$KEY'%s --prompt - <<'PROMPT'\n" \
    "$id" "$WORK" "$id" "${*:+ $*}"
  printf 'Mend the test of "%s": `date` costs $HOME.\nPROMPT\n' "$id"
}

# A turn of the agent, for which the model takes these steps: commands, or JSON objects. Prints what the agent said.
turn() {
  local steps
  steps=$(jq -cn '[$ARGS.positional[] | if startswith("{") then fromjson else . end]' --args "$@")
  dev openclaw agent --session-key "$KEY" --message "DO $steps" --json 2>>$SCENARIO/agent.log |
    jq -r '.result.payloads[].text'
}

# Prints how many turns of the agent's session began with an event about a job.
told() {
  jq -s --arg job "job $1 " --arg key "$KEY" \
    '[.[] | select(.session == $key and .results == [] and any(.events[]; contains($job)))] | length' $SCENARIO/model.log
}
was_told() { [ "$(told "$1")" -gt 0 ]; }

# Prints what the model said last, of what it has read in turns of its own.
has_read() {
  jq -e -s --arg job "\"jobId\":\"$1\"" --arg answer "$2" --arg key "$KEY" \
    'any(.[]; .session == $key and .events != [] and (.step.text // "" | startswith("READ: ") and contains($job) and contains($answer)))' \
    $SCENARIO/model.log
}

# Checks that an agent is woken for a job and reads its answer: `expect_told ID ANSWER SECONDS`
expect_told() {
  local began
  began=$(now)
  until_true "$3" was_told "$1"
  met "$1: the agent was told" "$(was_told "$1" && echo yes)" yes
  echo "measured: $1: told after $(($(now) - began)) s"
  until_true 60 has_read "$1" "$2"
  met "$1: the agent has read the result" "$(has_read "$1" "$2")" true
}

status() { dev claudejob status "$1" | jq -r ".${2#.}"; }
undelivered() { dev claudejob list --all --undelivered | jq length; }

setup() {
  mkdir -p "$WORK" /home/dev/.openclaw /home/dev/.claude /home/dev/workspace
  sed -e "s/@PORT@/$PORT/" $SCENARIO/openclaw.json >/home/dev/.openclaw/openclaw.json
  # A login of Claude Code by subscription.
  echo '{"claudeAiOauth": {"accessToken": "a", "refreshToken": "r", "expiresAt": 4102444800000, "scopes": ["user:inference"]}}' \
    >/home/dev/.claude/.credentials.json
  chown -R dev: /home/dev
  dev npm config set prefix /home/dev/.npm-global
  echo "measured: OpenClaw $(dev openclaw --version | head -n 1)"
  dev openclaw gateway install >$SCENARIO/gateway-install.log 2>&1 || cat $SCENARIO/gateway-install.log
  await_gateway
  met "the gateway is a service" "$(dev systemctl --user is-enabled openclaw-gateway)" enabled

  python3 $SCENARIO/registry/registry.py $SCENARIO/registry $SCENARIO/registry-port &
  until_true 10 test -e $SCENARIO/registry-port
  local began before
  began=$(date +%s%3N)
  dev npm install --global --ignore-scripts --no-fund --no-audit \
    --registry "http://127.0.0.1:$(cat $SCENARIO/registry-port)" claudejob >$SCENARIO/npm.log 2>&1
  echo "measured: npm install --global claudejob takes $(($(date +%s%3N) - began)) ms"
  met "npm installed" "$(dev sh -c 'command -v claudejob')" /home/dev/.npm-global/bin/claudejob
  before=$(sha256sum /home/dev/.openclaw/openclaw.json)
  dev claudejob setup openclaw --dry-run --json >$SCENARIO/dry-run.json
  met "claudejob setup openclaw --dry-run" "$(jq -r '[.files[].action] | unique | join(" ")' $SCENARIO/dry-run.json)" wouldWrite
  met "what it wrote" "$(cd /home/dev/.openclaw; ls -d skills/claudejob hooks/claudejob-recover 2>/dev/null; sha256sum "$PWD/openclaw.json")" "$before"
  dev claudejob setup openclaw --json >$SCENARIO/setup.json
  met "claudejob setup openclaw" "$? $(jq .ok $SCENARIO/setup.json)" "0 true"
  if [ "$(jq -r '.checks[] | select(.name == "restart").detail' $SCENARIO/setup.json)" != "not needed" ]; then
    gateway restart
    await_gateway
  fi
  met "what the agent says" "$(turn '{"text": "hello"}')" hello
  met "its prompt has the skill" "$(tail -n 1 $SCENARIO/model.log | jq .skill)" true
}

wake() {
  workplace first 'read $DIR/prompt' init 'wait-file $DIR/go' 'result the first answer' eof
  met "wake: what the agent says" "$(turn "$(start_command first)" '{"text": "started"}')" started
  met "wake: the job" "$(status first '| .status, .detached.by' | xargs)" "running scope"
  met "wake: its prompt" "$(jq -r .message.content "$WORK/first/prompt" | head -n 1)" \
    'Mend the test of "first": `date` costs $HOME.'
  touch "$WORK/first/go"
  expect_told first "the first answer" 60
  met "wake: told" "$(told first) times" "1 times"
}

# Prints a block of commands of the skill, as the gateway shows it, with this agent's KEY: `block NUMBER`
block() {
  awk -v number="$1" '/^ *```sh$/ { count++; inside = count == number; indent = index($0, "`"); next }
    /^ *```$/ { inside = 0 } inside { print substr($0, indent) }' /home/dev/.openclaw/skills/claudejob/SKILL.md |
    sed 's/openclaw:KEY/openclaw:$KEY/'
}

# The agent follows the skill to the letter: a job in a worktree, its changes, and the next step.
skill() {
  local app=/home/dev/app git='git -c user.name=dev -c user.email=dev@localhost'
  mkdir -p $app
  printf '%s\n' 'hear $DIR/heard' init "sh date >>mended && git add mended && $git commit -qm Mend" \
    'result the tests pass' eof >$app/script
  chown -R dev: $app
  dev sh -c "cd $app && git init -q && git add script && $git commit -qm Begin"
  met "skill: what the agent says" "$(turn "$(block 1)" '{"text": "started"}')" started
  expect_told fix-login "the tests pass" 60
  met "skill: the branch" "$(status fix-login .worktree.branch)" claudejob/fix-login
  turn 'claudejob diff fix-login' "$(block 3)" '{"text": "resumed"}' >/dev/null
  met "skill: the changes" "$(jq -c 'select(.results | length == 2) | .results[0] | contains("mended")' $SCENARIO/model.log | tail -n 1)" true
  until_true 60 eval '[ "$(told fix-login)" = 2 ]'
  met "skill: told" "$(told fix-login) times" "2 times"
  met "skill: the next step" "$(grep . "$(status fix-login .worktree.path)/heard" | tail -n 1)" "Good. Now fix the logout test, too."
  met "skill: the branch is that of the repository" "$(dev git -C $app log --format=%s claudejob/fix-login | xargs)" "Mend Mend Begin"
}

# An agent without a KEY waits in the background, as the skill says: the end of the wait wakes it.
background() {
  workplace background init 'wait-file $DIR/go' 'result the answer in the background' eof
  turn "claudejob start background --cwd $WORK/background --prompt work" \
    '{"tool": "exec", "input": {"command": "claudejob wait background", "background": true, "timeoutSeconds": 0}}' \
    '{"text": "started"}' >/dev/null
  met "background: the job" "$(status background .status)" running
  touch "$WORK/background/go"
  until_true 90 told_by_exec
  met "background: the agent was told" "$(told_by_exec && echo yes)" yes
}
told_by_exec() {
  jq -e -s --arg key "$KEY" 'any(.[]; .session == $key and (.text | contains("async command completion event")))' $SCENARIO/model.log >/dev/null
}

# Prints how many lines the hook has logged since the boot; those of the plugin name it.
hook_lines() { journalctl --boot --quiet --output=cat --identifier=node | grep -cE '^[^ ]+ claudejob: '; }

# The gateway starts with the configuration that docs/notifications.md names for --wake-url.
url() {
  local config=/home/dev/.openclaw/openclaw.json before
  before=$(hook_lines)
  sed -n '/^{ "hooks"/,/^```/p' $SCENARIO/notifications.md | sed '$d' | jq '.hooks.token = "for-hooks"' >$SCENARIO/hooks.json
  gateway stop
  jq -s '.[0] * .[1]' $config $SCENARIO/hooks.json >$SCENARIO/with-hooks.json
  cat $SCENARIO/with-hooks.json >$config
  gateway start
  await_gateway
  # The hook delivers what is due, but does not have the job's token.
  until_true 30 eval '[ "$(hook_lines)" -gt "$before" ]'
  workplace url init 'result the answer by url' eof
  dev env TOKEN=for-hooks claudejob start url --cwd "$WORK/url" --prompt work --wake-url "http://127.0.0.1:$PORT/hooks/wake" \
    --wake-token-env TOKEN --wake-session "$KEY" >/dev/null
  expect_told url "the answer by url" 60
}

# The gateway restarts while the job runs.
restart() {
  workplace second init 'wait-file $DIR/go' 'result the second answer' eof
  turn "$(start_command second)" '{"text": "started"}' >/dev/null
  local worker began
  worker=$(status second pid)
  began=$(now)
  gateway restart
  await_gateway
  echo "measured: the gateway restarts in $(($(now) - began)) s"
  met "restart: the job" "$(status second '| .status, .pid' | xargs)" "running $worker"
  touch "$WORK/second/go"
  expect_told second "the second answer" 60
  met "restart: told" "$(told second) times" "1 times"
}

# The job ends while the gateway is down.
down() {
  workplace third init 'wait-file $DIR/go' 'result the third answer' eof
  turn "$(start_command third)" '{"text": "started"}' >/dev/null
  gateway stop
  touch "$WORK/third/go"
  dev claudejob wait third --timeout 20s >/dev/null
  met "down: the job" "$(status third status)" completed
  sleep 65
  met "down: told" "$(told third) times" "0 times"
  gateway start
  await_gateway
  expect_told third "the third answer" 60
  until_true 60 eval '[ "$(undelivered)" = 0 ]'
  met "down: undelivered" "$(undelivered)" 0
  # Nobody tells it again, and neither does the next start of the gateway.
  gateway restart
  await_gateway
  sleep 20
  met "down: told" "$(told third) times" "1 times"
}

# Six jobs end within a second.
six() {
  local id commands=()
  for id in a b c d e f; do
    workplace "six-$id" init "wait-file $WORK/go" "result the answer of $id" eof
    commands+=("$(start_command "six-$id")")
  done
  turn "${commands[@]}" '{"text": "started"}' >/dev/null
  met "six: running" "$(dev claudejob list | jq '[.[] | select(.jobId | startswith("six-")) | select(.status == "running")] | length')" 6
  touch "$WORK/go"
  for id in a b c d e f; do
    expect_told "six-$id" "the answer of $id" 180
  done
  sleep 20
  for id in a b c d e f; do
    met "six: told of six-$id" "$(told "six-$id") times" "1 times"
  done
  met "six: undelivered" "$(undelivered)" 0
}


# The power fails while a job runs, and the hook continues it at the next start of the gateway.
before-crash() {
  workplace crash session 'read $DIR/prompt' init 'work 3' "once $WORK/crash/up wait-file $WORK/crash/never" 'result the answer after the crash' eof
  turn "$(start_command crash)" '{"text": "started"}' >/dev/null
  until_true 20 test -e "$WORK/crash/up"
  begin host_restarted --no-recover init 'touch $DIR/up' hang
  until_true 20 test -e "$WORK/host_restarted/up"
  met "before the power fails" "$(status crash status) $(status host_restarted status)" "running running"
  touch $SCENARIO/cut
  sleep infinity
}

after-crash() {
  until_true 60 eval 'dev claudejob status crash | jq -e ".attempt == 2"'
  met "crash: the attempt" "$(status crash attempt)" 2
  expect_told crash "the answer after the crash" 60
  met "crash: lines of the hook" "$(hook_lines)" 1
  until_true 60 eval '[ "$(undelivered)" = 0 ]'
  met "crash: undelivered" "$(undelivered)" 0
  met "crash: told of the failure and of the answer" "$(told crash) times" "2 times"
  met "hints: the reason" "$(status host_restarted reason)" host_restarted
  complete_by_hints host_restarted

  # Where the program is nowhere, the hook says so, once.
  mv /home/dev/.npm-global/bin/claudejob /home/dev/hidden
  local before
  before=$(hook_lines)
  gateway restart
  await_gateway
  until_true 30 eval '[ "$(hook_lines)" -gt "$before" ]'
  met "no program: lines of the hook" "$(($(hook_lines) - before))" 1
  mv /home/dev/hidden /home/dev/.npm-global/bin/claudejob
}

# A step of the model that calls a tool of the plugin: `call NAME ARGUMENTS`
call() { jq -cn --arg name "claudejob_$1" --argjson args "$2" '{tool: "tool_call", input: {id: $name, args: $args}}'; }

# The tools of the plugin: start, question, answer, result.
plugin() {
  dev openclaw plugins install "npm-pack:$(echo $SCENARIO/registry/claudejob-openclaw-plugin-*.tgz)" --force --accept-capabilities \
    >$SCENARIO/plugin-install.log 2>&1
  met "plugin: installed" $? 0
  gateway restart
  await_gateway
  workplace plugged 'read $DIR/prompt' init "$(question SQLite)" 'read $DIR/answer' 'result the fourth answer' eof
  turn "$(call start '{"jobId": "plugged", "cwd": "'$WORK'/plugged", "prompt": "Use `date` and $HOME", "ask": true}')" '{"text": "started"}' >/dev/null
  until_true 60 was_told plugged
  met "plugin: told of the question" "$(told plugged) times" "1 times"
  met "plugin: the job" "$(status plugged status)" blocked
  met "plugin: its prompt" "$(jq -r .message.content "$WORK/plugged/prompt")" 'Use `date` and $HOME'
  turn "$(call answer '{"jobId": "plugged", "choices": ["Postgres"]}')" '{"text": "answered"}' >/dev/null
  until_true 60 has_read plugged "the fourth answer"
  met "plugin: told of the end" "$(told plugged) times" "2 times"
  met "plugin: the answer" "$(grep -o Postgres "$WORK/plugged/answer" | head -n 1)" Postgres
  turn "$(call result '{"jobId": "plugged"}')" '{"text": "read"}' >/dev/null
  met "plugin: the result" "$(tail -n 1 $SCENARIO/model.log | jq '.results[-1] | contains("the fourth answer")')" true
}

. $SCENARIO/hints.sh
mkdir -p "$WORK"
python3 $SCENARIO/model.py 18700 $SCENARIO/model.log 2>$SCENARIO/model.errors &
for part in $(cat $SCENARIO/which); do
  [ "$part" = setup ] || await_gateway
  "$part"
  echo "met: $part came to its end"
done
