# Jobs of each reason and status, and an agent that knows nothing but the `hint` of each answer: scenario.sh sources this.
# shellcheck shell=bash disable=SC2016

SESSION=00000000-0000-4000-8000-000000000000

# A result of claude with these fields.
answer() {
  jq -rn --arg session $SESSION --argjson more "$1" '"json " + ({type: "result", subtype: "success", is_error: false,
    num_turns: 1, duration_ms: 1, session_id: $session, total_cost_usd: 0.01, usage: {output_tokens: 3}, result: "done"} + $more | tostring)'
}

# A step of claude that asks its caller: for a permission, or a question with this first label.
request() { jq -rn --argjson request "$1" '"json " + ({type: "control_request", request_id: "q1", request: ({subtype: "can_use_tool"} + $request)} | tostring)'; }
question() {
  request "$(jq -cn --arg first "$1" '{tool_name: "AskUserQuestion", input: {questions: [{question: "Which database?", header: "DB",
    options: [{label: $first, description: "d"}, {label: "Postgres", description: "d"}], multiSelect: false}]}}')"
}

# Starts a job whose first claude does the given steps, and whose later ones complete: `begin ID "OPTIONS" STEP...`
begin() {
  local id=$1 options=$2 number=0 step steps=()
  shift 2
  for step in "$@"; do
    number=$((number + 1))
    steps+=("once \$DIR/once-$number $step")
  done
  workplace "$id" 'hear $DIR/heard' "${steps[@]}" init 'say done' "$(answer '{"structured_output": {}}')" 'hear-all $DIR/heard'
  # shellcheck disable=SC2086
  dev claudejob start "$id" --cwd "$WORK/$id" $options --prompt work >>$SCENARIO/starts.log
}

# A job that ends by itself with a reason: `fails REASON "OPTIONS" STEP...`
fails() {
  local reason=$1
  begin "$@"
  dev claudejob wait "$reason" --timeout 30s >/dev/null
  met "hints: the reason" "$(status "$reason" reason)" "$reason"
}

# Follows the hints of jobs in one turn, and prints what the model said at each end.
follow() {
  local id steps=()
  for id in "$@"; do
    steps+=("{\"follow\": \"claudejob status $id\"}")
  done
  turn "${steps[@]}" | tee -a $SCENARIO/ends.log
}

# The hints of these jobs lead to a completed job.
complete_by_hints() {
  local id
  follow "$@" >/dev/null
  for id in "$@"; do
    met "hints: $id, at the end" "$(status "$id" status)" completed
  done
}

# The hints of these jobs lead to words that say what a person must do.
end_with_advice() {
  local id said
  said=$(follow "$@")
  for id in "$@"; do
    met "hints: $id, advice for a person" "$(grep "^END $id:" <<<"$said" | grep -cE '# .*(person|new job)')" 1
  done
}

failures() {
  local ended='exit 0' error='{"subtype": "error_max_turns", "is_error": true}'
  fails auth '--retries 0' init 'refused 401' "$ended"
  fails rate_limit '--retries 0' init 'refused 429' "$ended"
  fails overloaded '--retries 0' init 'refused 529' "$ended"
  fails api_error '--retries 0' init 'refused 500' "$ended"
  fails max_turns '--max-turns 7' init "$(answer "$error")" "$ended"
  fails max_budget '--max-budget-usd 0.15' init "$(answer '{"subtype": "error_max_budget_usd", "is_error": true}')" "$ended"
  complete_by_hints auth rate_limit overloaded api_error max_turns max_budget

  fails permission_denied --fail-on-denial init \
    "$(answer '{"permission_denials": [{"tool_name": "Bash", "tool_use_id": "t", "tool_input": {}}]}')" "$ended"
  fails no_answer '' init "$(answer '{"result": ""}')" "$ended"
  fails invalid_output '--json-schema {}' init "$(answer '{"subtype": "error_max_structured_output_retries", "is_error": true}')" "$ended"
  fails mcp_failed --fail-on-mcp \
    'json {"type": "system", "subtype": "init", "session_id": "'$SESSION'", "model": "m", "mcp_servers": [{"name": "db", "status": "failed"}]}' \
    "$(answer '{}')" "$ended"
  fails wakeup_missed '' init \
    'json {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "content": "set"}]}, "tool_use_result": {"scheduledFor": 60000, "clampedDelaySeconds": 60}}' \
    "$(answer '{}')" "$ended"
  fails timeout '--timeout 1s' init hang
  fails stalled '--stall-timeout 1s' init hang
  complete_by_hints permission_denied no_answer invalid_output mcp_failed wakeup_missed timeout stalled

  fails no_result '--retries 0' init 'die KILL'
  begin interrupted '' init 'touch $DIR/up' 'hear $DIR/heard' eof "$ended"
  begin worker_died '' init 'touch $DIR/up' hang
  begin terminated '' init 'touch $DIR/up' hang
  begin killed '' init 'touch $DIR/up' hang
  local id
  for id in interrupted worker_died terminated killed; do
    until_true 20 test -e "$WORK/$id/up"
  done
  dev claudejob interrupt interrupted >/dev/null
  kill -KILL "$(status worker_died pid)"
  kill -TERM "$(status terminated pid)"
  dev claudejob kill killed >/dev/null
  for id in interrupted worker_died terminated; do
    dev claudejob wait "$id" --timeout 30s >/dev/null
    met "hints: the reason" "$(status "$id" reason)" "$id"
  done
  met "hints: the status" "$(status killed status)" killed
  begin earlier '--max-turns 7' init "$(answer "$error")" "$ended"
  fails dependency_failed '--after earlier'
  complete_by_hints no_result interrupted worker_died terminated killed dependency_failed

  fails prompt_too_long '' init "$(answer '{"is_error": true, "terminal_reason": "blocking_limit", "result": "Prompt is too long"}')" "$ended"
  fails prompt_rejected '' init \
    "$(answer '{"result": "unknown command", "num_turns": 0, "total_cost_usd": 0, "usage": {"input_tokens": 0, "output_tokens": 0}, "model_usage_since_last_result": {}}')" "$ended"
  workplace claude_refused 'stderr error: unknown option' 'exit 1'
  dev claudejob start claude_refused --cwd "$WORK/claude_refused" --prompt work >/dev/null
  workplace launch_failed
  printf '#!/nowhere/at/all\n' >"$WORK/launch_failed/broken"
  chmod 755 "$WORK/launch_failed/broken"
  dev claudejob start launch_failed --cwd "$WORK/launch_failed" --claude "$WORK/launch_failed/broken" --retries 0 --prompt work >/dev/null
  begin unprepared '--setup false'
  dev claudejob wait unprepared --timeout 30s >/dev/null
  met "hints: the reason of a failed --setup" "$(status unprepared reason)" launch_failed
  for id in claude_refused launch_failed; do
    dev claudejob wait "$id" --timeout 30s >/dev/null
    met "hints: the reason" "$(status "$id" reason)" "$id"
  done
  end_with_advice prompt_too_long prompt_rejected claude_refused launch_failed unprepared
}

# A job that is live, with the status or the kind of wait that it has.
lives() {
  until_true 20 eval "[ \"\$(status $1 '$2')\" = $3 ]"
  met "hints: $1" "$(status "$1" "$2")" "$3"
}

live() {
  begin asking '--ask --group one' init "$(question "It's \"\$HOME\"")" read
  begin permission --ask init "$(request '{"tool_name": "Write", "input": {"file_path": "x"}}')" read
  begin slot '--group one'
  begin behind '--after asking'
  begin frozen '' init 'touch $DIR/up' 'wait-file $DIR/go'
  until_true 20 test -e "$WORK/frozen/up"
  dev claudejob pause --stop frozen >/dev/null
  touch "$WORK/frozen/go"
  begin idle '--keep-alive'
  dev claudejob pause --group held >/dev/null
  begin paused '--group held'
  begin limited '' init 'limit 10' 'refused 429' 'exit 0'
  begin running '' init 'wait-file $DIR/go'
  begin later '--start-delay 40s'
  lives later .waitingFor.kind time
  lives asking .status blocked
  lives permission .status blocked
  lives idle .status idle
  lives paused .waitingFor.kind paused
  lives limited .waitingFor.kind limit
  lives running .status running
  lives slot .waitingFor.kind slot
  lives behind .waitingFor.kind job
  lives frozen .waitingFor.kind paused
  (sleep 15; touch "$WORK/running/go") &
  complete_by_hints slot behind asking permission idle paused frozen later limited running
}

hints() {
  failures
  live
}
