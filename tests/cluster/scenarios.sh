# shellcheck shell=bash
# The scenarios: a function each, which fails if something is not as it must be. The job of a scenario has its
# name, or NAME-1, NAME-2, …

# Each claude of a job, fake or real, looks at its start whether another one of the same job runs, by a lock in a
# folder of this machine, which is the same for all nodes.
prepare_claude() {
  cat >"$d/fake/claude" <<SH
#!/bin/sh
job=\${CLAUDEJOB_ID:-none} script=$d/fake/\${CLAUDEJOB_ID%%-*}; export FAKE_CLAUDE=\$script FAKE_DIR=$d/work
[ "\$job" = real ] && program=${CLAUDE:-} || program=$fake
case \$1 in --version | --help) exec \$program "\$@" ;; esac
mkdir -p $d/work/\$job; exec 9>>$d/work/\$job/lock
if flock -n 9; then echo alone; else echo beside another; fi >>$d/work/\$job/claudes
exec \$program "\$@"
SH
  chmod 755 "$d/fake/claude"; export CLAUDE_SKILL_CLAUDE=$d/fake/claude
  variables "$d/env" ANTHROPIC_API_KEY=x
}
variables() { (umask 077; printf '%s\n' "CLAUDEJOB_TEST_LEASE=500 5000 8000" IS_SANDBOX=1 "${@:2}" >"$1"); }

log() { "$@" >>"$d/log/calls" 2>&1; }
scenario() {
  : >"$d/log/trace"; exec 8>>"$d/log/trace"; local BASH_XTRACEFD=8 result=0
  set -x; "$1" || result=1; { set +x; } 2>/dev/null
  return $result
}
what_failed() {
  tail -n 4 "$d/log/trace" "$d/log/calls" "$d/jobs/$1/engine.log" 2>/dev/null | cut -c 1-300 || true
  squeue -t all -n "claudejob-$1"; sinfo -N -o '%N %T %E'
}

# The steps of the claudes of a scenario (see tests/fake_claude).
script() { printf '%s\n' session init read "${@:2}" >"$d/fake/$1"; }
job() { log "$bin" start "$1" --on slurm --env-file "$d/env" -p work "${@:2}"; }
id() { squeue -h -t all -o %i -n "claudejob-$1"; }
where() { squeue -h -t R -o %N -n "claudejob-$1"; }
is() { "$bin" --json status "$1" 2>/dev/null | grep -q "\"status\": *\"$2\""; }
# The claude of the job runs.
runs() { ! flock -n "$d/work/$1/lock" true; }
ended_claude() { ! runs "$1"; }
logs_of() { ls -v "$d/jobs/$1"/epochs/*/output.log 2>/dev/null; }
inits() { cat "$(logs_of "$1" | tail -n 1)" 2>/dev/null | grep '"subtype":"init"' | jq -r .session_id | sort | uniq -c | awk '{ print $1 }' | xargs; }
# The log shows that so many claudes have begun, all in the same session.
speaks() { [ "$(inits "$1")" = "$2" ]; }

# So many claudes of the job have run, no two at the same time, in one session, and none of them wrote into the
# log of an epoch after a successor had begun with a copy of it.
alone() {
  local log last=
  [ "$(sort "$d/work/$1/claudes" | uniq -c | xargs)" = "$2 alone" ] && speaks "$1" "$2" || return
  for log in $(logs_of "$1"); do
    [ -z "$last" ] || cmp -s -n "$(stat -c %s "$last")" "$last" "$log" || return
    last=$log
  done
}
# These ends of the job are recorded, each one once. A job that continues was cut off before.
has_ends() { [ "$(ls -v "$d/jobs/$1"/epochs/*.json | xargs jq -r 'select(.claim == null).status' | xargs)" = "${*:2}" ]; }
# The job ends so, and its status stays.
ends() {
  local last=${*: -1}
  within 120 is "$1" "$last" && sleep 2 && is "$1" "$last" && has_ends "$@"
}
# What Slurm says about the end of the batch process.
exits() { within 20 eval "scontrol -o show job $(id "$1") | grep -q ' ExitCode=$2 '"; }

start() { script start 'result Done.'; job start && ends start completed && alone start 1 && exits start 0:0; }
message() {
  script message 'say hello' 'hear $DIR/heard' 'result Done.' eof
  job message && within 60 speaks message 1 || return
  local from=$EPOCHSECONDS
  log "$bin" send message --message more && within 10 test -s "$d/work/heard" && [ $((EPOCHSECONDS - from)) -lt 6 ] &&
    ends message completed && alone message 1
}
question() {
  script question 'json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}' \
    'read $DIR/answer' 'result Done.' eof
  job question --ask && within 60 is question blocked || return
  local from=$EPOCHSECONDS
  log "$bin" answer question --choice Postgres && within 10 grep -q Postgres "$d/work/answer" && [ $((EPOCHSECONDS - from)) -lt 6 ] &&
    ends question completed && alone question 1
}
pending() {
  script pending 'result Done.'
  job pending --on-arg=--hold && log "$bin" kill pending && ends pending killed && ! test -e "$d/work/pending"
}
kills() {
  script kills hang
  job kills && within 60 speaks kills 1 && log "$bin" kill kills && ends kills killed && alone kills 1 && exits kills 3:0
}
cancel() {
  script cancel hang
  job cancel && within 60 speaks cancel 1 && scancel "$(id cancel)" && ends cancel failed && alone cancel 1
}
array() { script array 'result Done.'; fleet array 20 && each 20 array 1 completed; }
# An array of jobs: NAME COUNT OPTION...
fleet() {
  for i in $(seq "$2"); do echo "{\"jobId\":\"$1-$i\",\"prompt\":\"x\"}"; done |
    log "$bin" start --on slurm --env-file "$d/env" -l "set=$1" --from - "${@:3}"
}
# Each of so many jobs has had so many claudes and these ends.
each() {
  within 300 counts "$2" "${*: -1}" "$1" || return
  for i in $(seq "$1"); do alone "$2-$i" "$3" && has_ends "$2-$i" "${@:4}" || return; done
}
counts() { sleep 1; [ "$("$bin" --json list --all -l "set=$1" --status "$2" | jq length)" = "$3" ]; }
crash() {
  script crash 'fresh hang' 'result Done.'
  job crash && within 60 speaks crash 1 || return
  local n; n=$(where crash); crash_node "$n"
  ends crash completed && alone crash 2 && begin_node "$n" && within 60 are_idle
}

# Slurm ends the job and starts it again.
requeue() {
  script requeue 'fresh hang' 'result Done.'
  job requeue && within 60 speaks requeue 1 && scontrol requeue "$(id requeue)" &&
    ends requeue failed completed && alone requeue 2 && exits requeue 0:0
}
# A more urgent job takes its node.
preempt() {
  script preempt 'fresh hang' 'result Done.'; script urgent 'wait-file $DIR/urgent-go' 'result Done.'
  local node=(--on-arg=--nodelist=n1 --on-arg=--exclusive)
  job preempt "${node[@]}" && within 60 speaks preempt 1 || return
  job urgent "${node[@]}" --on-arg=--partition=urgent && within 60 speaks urgent 1 || return
  within 10 is preempt queued && ended_claude preempt && touch "$d/work/urgent-go" &&
    ends urgent completed && ends preempt failed completed && alone preempt 2 && alone urgent 1
}
# The job's time is over: it can be continued.
limit() {
  script limit 'fresh hang' 'result Done.'
  job limit --on-arg=--time=1 --on-arg=--signal=B:TERM@30 && within 60 speaks limit 1 && ends limit failed || return
  "$bin" --json status limit | grep -q '"reason": *"terminated"' && exits limit 1:0 && alone limit 1 &&
    log "$bin" resume limit -p more && ends limit failed completed && alone limit 2
}

# A partition in which the owner continues, longer than a lease may stand still: its successor waits for it.
partition() {
  script partition 'wait-file $DIR/partition-go' 'result Done.'
  local n; lose_node partition && sleep 12 && runs partition && alone partition 1 || return
  touch "$d/work/partition-go"
  ends partition completed && alone partition 1 && exits partition 0:0 && rejoin "$n"
}
# Starts the job and cuts off its node n, until Slurm has started it on another one.
lose_node() {
  job "$1" && within 60 speaks "$1" 1 || return
  n=$(where "$1"); cut_node "$n"
  within 120 has_moved "$1" "$n"
}
# The job has been started on another node than this one.
has_moved() { local now; now=$(where "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
rejoin() { heal_node "$1"; within 60 are_idle; }

# The lost node returns after Slurm has started the job again: Slurm ends what runs there.
revived() {
  script revived 'fresh hang' 'result Done.'
  local n; lose_node revived && sleep 2 && runs revived && alone revived 1 || return
  heal_node "$n"
  ends revived completed && alone revived 2 && within 60 are_idle
}
# The node returns before Slurm has given it up: nothing has happened, also later.
blip() {
  script blip 'wait-file $DIR/blip-go' 'result Done.'
  job blip && within 60 speaks blip 1 || return
  local n; n=$(where blip); cut_node "$n"; sleep 8; heal_node "$n"
  sleep 30; [ "$(where blip)" = "$n" ] && runs blip && alone blip 1 || return
  touch "$d/work/blip-go"; ends blip completed && alone blip 1 && exits blip 0:0
}
# A job on a node that does not answer is killed: it says so, and what runs there ends itself.
lost_kill() {
  script lost_kill hang
  job lost_kill && within 60 speaks lost_kill 1 || return
  local n answer; n=$(where lost_kill); cut_node "$n"
  answer=$("$bin" --json kill lost_kill 2>>"$d/log/calls" || true)
  jq -e '.killed == false' <<<"$answer" >/dev/null && within 15 ended_claude lost_kill || return
  sleep 25; rejoin "$n" && ends lost_kill killed && alone lost_kill 1 && within 30 is_cancelled lost_kill
}
# The file server does not answer this node: its claude ends without any file, and the worker says that the job is
# not its own. It is continued when somebody says so.
unserved() {
  script unserved 'fresh hang' 'result Done.'
  job unserved && within 60 speaks unserved 1 || return
  local n; n=$(where unserved); freeze_server "$n"
  within 15 ended_claude unserved && exits unserved 76:0 && within 60 is unserved failed || return
  thaw_server "$n"
  log "$bin" recover unserved && ends unserved failed completed && alone unserved 2
}
is_cancelled() { [ "$(squeue -h -t all -o %T -n "claudejob-$1")" = CANCELLED ]; }
# The node is cut off from everything: so it ends its claude, and another node continues. When it returns, nothing
# of its worker shows.
frozen() {
  script frozen 'fresh hang' 'result Done.'
  job frozen && within 60 speaks frozen 1 || return
  local n before; n=$(where frozen); freeze_server "$n"; cut_node "$n"
  within 15 ended_claude frozen && within 90 has_moved frozen "$n" && ends frozen completed && alone frozen 2 || return
  before=$(shown frozen)
  thaw_server "$n"; heal_node "$n"
  within 60 left_as_not_owner frozen "$n" && within 60 are_idle && ends frozen completed && alone frozen 2 &&
    exits frozen 0:0 && [ "$(shown frozen)" = "$before" ]
}
# The worker of the job on this node has said that it does not own the job.
left_as_not_owner() { grep -q "\[$(id "$1").batch\].*exited with exit code 76" "$d/log/slurmd-$2.log"; }
# All that readers see of a job.
shown() {
  "$bin" --json status "$1"; "$bin" --json result "$1"; "$bin" logs "$1"
  (cd "$d/jobs/$1" && find . -type f ! -path './epochs/1/*' ! -name 1.lease ! -name engine.log -exec sha1sum {} + | sort)
}

# An array of 200 jobs whose claudes repeat a recorded conversation.
array200() {
  printf '%s\n' read "play $PWD/tests/fixtures/transcripts/2.1.332/success.ndjson" >"$d/fake/array200"
  fleet array200 200 --max-parallel 20
  each 200 array200 1 completed
}
# A node with 20 jobs crashes, and all are recovered at once.
recover20() {
  script recover20 'fresh hang' 'result Done.'
  fleet recover20 20 --on-arg=--no-requeue --on-arg=--nodelist=n2
  within 120 speak 20 recover20 1 || return
  crash_node n2; within 120 counts recover20 failed 20 && begin_node n2 && log "$bin" recover --all -l set=recover20 && each 20 recover20 2 failed completed
}
speak() { for i in $(seq "$1"); do speaks "$2-$i" "$3" || return; done; }

# The real CLI. The node crashes when the API has got the result of a tool, and does not answer.
real() {
  local steps n
  steps=$(jq -nc --arg command "echo done >>$d/work/real-tool" '[{bash: $command}, "hang", {text: "All is done."}]')
  coproc API { exec target/debug/examples/scripted-api "$steps" "$net.254:0"; }
  api=$API_PID; read -r url <&"${API[0]}"
  variables "$d/env.real" ANTHROPIC_API_KEY=x "ANTHROPIC_BASE_URL=$url" "CLAUDE_CONFIG_DIR=$d/home/.claude"
  log "$bin" start real --on slurm --env-file "$d/env.real" -p 'Run the command.' || return
  echo 'wait 2' >&"${API[1]}"; read -r -t 90 answer <&"${API[0]}" && [ "$answer" = arrived ] || return
  within 20 speaks real 1 || return
  n=$(where real); crash_node "$n"
  ends real completed && alone real 2 && "$bin" result real | grep -q 'All is done' &&
    [ "$(cat "$d/work/real-tool")" = done ] && begin_node "$n" && within 60 are_idle
}
