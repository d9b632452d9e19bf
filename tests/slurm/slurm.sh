#!/bin/sh
# Stands in for the commands of a Slurm cluster, under whose names it is called: sbatch, squeue, scancel
# and scontrol print what those of Slurm 22.05 print. The cluster is the folder $SLURM_STAND_IN:
#   ID.state    the line of squeue after the id: STATE|RESTARTS|NODE|REASON; an array has a file for each task
#   ID.args     the arguments of sbatch, one a line         ID.script  the batch script
#   ID.pid      the process of a job that runs              calls      the commands so far, one a line
#   single      it has one node
#   refuse      sbatch fails with this message              down       no command reaches the controller
#   hang        squeue makes the file hangs, and waits until somebody opens this named pipe to write
#   ID.requeue  the job is pending when its process is ended
#   meanwhile   sbatch runs this script first
# `slurm.sh run ID [RESTARTS]` is what a node does with a job.
cd "$SLURM_STAND_IN" || exit 1
command=$(basename "$0")
echo "$command $(echo "$*" | head -1)" >>calls
fail() { echo "$command: error: $1" >&2; exit 1; }
# A concurrent reader finds the old state or the new one.
set_state() { echo "$2" >"$1.new$$" && mv "$1.new$$" "$1.state"; }
[ -e down ] && [ "$command" != slurm.sh ] && fail "Unable to contact slurm controller (connect failure)"

case $command in
sbatch)
  [ -e meanwhile ] && sh meanwhile
  [ -e refuse ] && fail "Batch job submission failed: $(cat refuse)"
  id=1; while ! mkdir "$id.lock" 2>/dev/null; do id=$((id + 1)); done
  tasks= node=n1
  for argument; do
    printf '%s\n' "$argument"
    case $argument in
    --wrap=*) printf '#!/bin/sh\n# This script was created by sbatch --wrap.\n\n%s\n' "${argument#--wrap=}" >"$id.script" ;;
    --exclude=n1)
      [ -e single ] && fail 'Batch job submission failed: Requested node configuration is not available'
      node=n2 ;;
    --array=*) tasks=$(echo "$argument" | sed 's/.*-\([0-9]*\).*/\1/') ;;
    --output=*) echo "${argument#--output=}" | sed 's/%%/%/g' >"$id.output" ;;
    esac
  done >"$id.args"
  if [ -z "$tasks" ]; then
    set_state "$id" 'PENDING|0||Priority'
  else
    for task in $(seq 0 "$tasks"); do set_state "${id}_$task" 'PENDING|0||Priority'; done
  fi
  echo "$id"
  if grep -q '^--job-name=claudejob-probe$' "$id.args"; then
    STAND_IN_NODE=$node "$(readlink "$0")" run "$id" </dev/null >/dev/null 2>&1 &
  fi ;;
squeue)
  [ -e hang ] && touch hangs && read -r _ <hang
  only=
  while [ $# -gt 0 ]; do
    [ "$1" = -j ] && only=$2
    shift
  done
  case $only in
  *,*) ;; # Of several jobs those that are gone are left out.
  ?*) [ -e "$only.state" ] || { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; } ;;
  esac
  for id in $(if [ -n "$only" ]; then echo "$only" | tr , ' '; else ls | sed -n 's/\.state$//p'; fi); do
    [ -e "$id.state" ] && echo "$id|$(cat "$id.state")|$(sed -n 's/^--comment=//p' "${id%_*}.args")"
  done
  exit 0 ;;
scancel)
  signal= ids=
  while [ $# -gt 0 ]; do
    case $1 in -s) signal=$2; shift ;; -b) ;; *) ids="$ids $1" ;; esac
    shift
  done
  status=0
  for id in $ids; do
    why='Job/step already completing or completed'
    case $(cut -d '|' -f 1 "$id.state" 2>/dev/null) in
    RUNNING)
      [ -e "$id.requeue" ] && set_state "$id" 'PENDING|1||BeginTime'
      kill -s "${signal:-TERM}" "$(cat "$id.pid")"; continue ;;
    PENDING) [ -z "$signal" ] && set_state "$id" 'CANCELLED|0||None'; continue ;;
    '') why='Invalid job id specified' ;;
    esac
    echo "scancel: error: Kill job error on job id $id: $why" >&2
    status=1
  done
  exit $status ;;
scontrol)
  printf '%-23s = %s\n' ClusterName standin JobRequeue 1 KillWait '5 sec' ProctrackType proctrack/linuxproc \
    SLURM_VERSION 22.05.8 MaxArraySize "${STAND_IN_ARRAY_SIZE:-1001}" ;;
slurm.sh)
  id=$2; job=${id%_*}
  restarts=${3:-0}
  export SLURM_JOB_ID="$id" SLURM_RESTART_COUNT="$restarts" SLURMD_NODENAME="${STAND_IN_NODE:-n1}"
  [ "$job" != "$id" ] && export SLURM_ARRAY_JOB_ID="$job" SLURM_ARRAY_TASK_ID="${id#*_}"
  # A job that runs can be signalled.
  sh -c 'echo $$ >"$1.pid"; echo "$3" >"$1.new$$" && mv "$1.new$$" "$1.state"; exec sh "$2"' \
    run "$id" "$job.script" "RUNNING|$restarts|n1|None" >>"$(cat "$job.output")" 2>&1
  status=$?
  if [ -e "$id.requeue" ]; then set_state "$id" 'PENDING|1||BeginTime'
  elif [ "$status" = 0 ]; then set_state "$id" 'COMPLETED|0|n1|None'
  else set_state "$id" 'FAILED|0|n1|NonZeroExitCode'; fi
  exit "$status" ;;
esac
