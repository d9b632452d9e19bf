# shellcheck shell=bash
# The cluster in the folder $d: a controller and three nodes. Each node has namespaces (processes, mounts, network,
# host name), a boot id, and a mount (bindfs) of the jobs directory of its own, so that no lock of one node reaches
# another. Its only link is one to a bridge, at which the controller is, too.
nodes="n1 n2 n3"
declare -A node init server
number=$(($$ % 250))
bridge=rig$number net=10.201.$number

slurm_conf() {
  local host; host=$(hostname -s)
  cat <<CONF
ClusterName=rig
SlurmctldHost=$host($net.254)
SlurmUser=root
AuthType=auth/munge
# A requeued job waits for cred_expire.
AuthInfo=socket=$d/run/munge.sock,cred_expire=10
SlurmctldPort=$((26000 + number))
SlurmctldPidFile=$d/run/slurmctld.pid
SlurmctldLogFile=$d/log/slurmctld.log
SlurmdPidFile=$d/run/slurmd-%n.pid
SlurmdDebug=debug
SlurmdLogFile=$d/log/slurmd-%n.log
SlurmdSpoolDir=$d/spool/%n
StateSaveLocation=$d/state
ProctrackType=proctrack/${PROCTRACK:-linuxproc}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=15
KillWait=5
# A busy machine starts a process late.
BatchStartTimeout=60
JobRequeue=1
SlurmdParameters=config_overrides
PartitionName=main Nodes=n1,n2,n3 Default=YES MaxTime=INFINITE State=UP DefMemPerNode=100 PriorityTier=1
PartitionName=urgent Nodes=n1,n2,n3 MaxTime=INFINITE State=UP DefMemPerNode=100 PriorityTier=2 PreemptMode=OFF
CONF
  for n in $nodes; do echo "NodeName=$n NodeHostname=$host NodeAddr=$net.${n#n} Port=6818 CPUs=32 RealMemory=8000"; done
}

begin_cluster() {
  mkdir -p "$d"/{run,log,state,home,jobs,store,work,fake} "$d"/{spool,m}/n{1,2,3}; chmod 700 "$d"/{jobs,store}
  export SLURM_CONF=$d/slurm.conf HOME=$d/home CLAUDE_SKILL_JOBS_DIR=$d/jobs
  slurm_conf >"$SLURM_CONF"
  printf '%s\n' CgroupPlugin=cgroup/v1 CgroupMountpoint=/sys/fs/cgroup >"$d/cgroup.conf"
  cp /etc/munge/munge.key "$d/run/"; chown -R munge: "$d/run"; chmod 400 "$d/run/munge.key"
  su -s /bin/bash munge -c "/usr/sbin/munged --key-file=$d/run/munge.key --socket=$d/run/munge.sock --pid-file=$d/run/munged.pid --log-file=$d/run/munged.log --seed-file=$d/run/munged.seed"
  ip link add $bridge type bridge; ip addr add $net.254/24 dev $bridge; ip link set $bridge up
  chmod 777 "$d/run"; slurmctld -f "$SLURM_CONF"
  # The login node.
  begin_server login "$d/jobs"
  for n in $nodes; do begin_server "$n" "$d/m/$n"; begin_node "$n"; done
  within 30 are_idle
}
are_idle() { [ "$(sinfo -h -p main -o %D -t idle 2>/dev/null)" = 3 ]; }

# The mount of a node outlives it, as a file server does.
begin_server() {
  bindfs -f "$d/store" "$2" >>"$d/log/bindfs" 2>&1 & server[$1]=$!; disown
  within 10 mountpoint -q "$2"
}

# The login of the user, which Slurm reads for each job, is an empty one.
begin_node() {
  cat /proc/sys/kernel/random/uuid >"$d/boot.$1"; rm -f "$d/run/up.$1"
  unshare -m -u -n -p -f --kill-child --mount-proc sh -c "hostname $1; mount --bind $d/m/$1 $d/jobs; mount --bind $d/home /root
    mount --bind $d/boot.$1 /proc/sys/kernel/random/boot_id; touch $d/run/up.$1
    exec env --ignore-signal=CHLD sleep infinity" >>"$d/log/$1.out" 2>&1 &
  node[$1]=$!; disown
  within 10 test -e "$d/run/up.$1"
  init[$1]=$(pgrep -P "${node[$1]}")
  ip link add "$bridge$1" type veth peer name eth0 netns "${init[$1]}"
  ip link set "$bridge$1" master $bridge up
  in_node "$1" sh -c "ip link set lo up; ip addr add $net.${1#n}/24 dev eth0; ip link set eth0 up"
  in_node "$1" slurmd -D -N "$1" -f "$SLURM_CONF" >>"$d/log/$1.out" 2>&1 & disown
}
in_node() { nsenter -t "${init[$1]}" -m -u -n -p "${@:2}"; }

# A crash of the node: everything on it ends.
crash_node() { kill -9 "${node[$1]}"; }
# A partition: nobody reaches the node any more, where everything continues, and which has its file server.
cut_node() { ip link set "$bridge$1" down; }
heal_node() {
  ip link set "$bridge$1" up
  # It registers at once, and not after a minute.
  in_node "$1" kill -HUP "$(cat "$d/run/slurmd-$1.pid")"
}
freeze_server() { kill -STOP "${server[$1]}"; }
thaw_server() { kill -CONT "${server[$1]}"; }

end_cluster() {
  local n f
  for n in $nodes; do kill -9 "${node[$n]:-}" 2>/dev/null || true; done
  for f in slurmctld munged; do kill "$(cat "$d/run/$f.pid" 2>/dev/null)" 2>/dev/null || true; done
  [ -z "${api:-}" ] || kill "$api" 2>/dev/null || true
  ip link del $bridge 2>/dev/null || true
  for f in "$d"/m/n? "$d/jobs"; do umount -l "$f" 2>/dev/null || true; done
  # A mount may have been copied into the namespace of a stranger.
  for f in "${server[@]}"; do kill -9 "$f" 2>/dev/null || true; done
  sleep 1
  if [ -n "${KEEP:-}" ]; then echo "kept: $d"; else rm -rf "$d"; fi
}

# Waits until a command succeeds, for some seconds.
within() {
  local until=$((SECONDS + $1))
  until "${@:2}"; do [ $SECONDS -lt $until ] || return; sleep 0.2; done
}
