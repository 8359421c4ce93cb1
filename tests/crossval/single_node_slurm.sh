#!/usr/bin/env bash
# A real SLURM cluster of one node on this machine, from Debian's packages, for the tests; needs root.
#   single_node_slurm.sh start FOLDER    installs SLURM if it is not there, starts it, waits until the node is idle
#   single_node_slurm.sh stop FOLDER     ends it
# Its configuration is FOLDER/slurm.conf: export SLURM_CONF=FOLDER/slurm.conf to talk to it. It has ports and a key of its
# own, and nothing in /etc is changed: another SLURM on this machine is not disturbed.
set -euo pipefail
action=${1:?start or stop} folder=$(realpath -m "${2:?a folder for its configuration, state and logs}")
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin:/sbin

stop() {
  for pid in "$folder"/slurmctld.pid "$folder"/slurmd.pid "$folder"/munge/munged.pid; do
    [ ! -f "$pid" ] || kill "$(cat "$pid")" || true
  done
}

install() {
  command -v slurmctld slurmd munged >/dev/null && return
  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends slurm-wlm munge
}

configure() {
  local host memory
  host=$(hostname -s)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$folder/controller
SlurmdSpoolDir=$folder/node
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=3
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  mkdir -p "$folder/controller" "$folder/node" "$folder/munge"
  (umask 077 && dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none)
  chmod 755 "$folder" && chown -R munge: "$folder/munge"
  runuser -u munge -- munged --socket "$folder/munge/socket" --pid-file "$folder/munge/munged.pid" \
    --log-file "$folder/munge/munged.log" --seed-file "$folder/munge/munged.seed" --key-file "$folder/munge/key"
  slurmctld && sleep 2 && slurmd
  for _ in $(seq 30); do
    sinfo --noheader --format %t 2>/dev/null | grep -q idle && return
    sleep 1
  done
  echo "The node did not become idle; see $folder/slurmctld.log and $folder/slurmd.log." >&2
  return 1
}

if [ "$action" = stop ]; then
  stop
else
  install
  mkdir -p "$folder"
  configure
  start || { stop; exit 1; }
fi
