#!/usr/bin/env bash
# Trains with several processes on this machine, each with simulated CPU devices: a rehearsal of many machines.
#
#     CONFIG=configs/demo.py WORKDIR=runs/two launch/local.sh [--dry_run] [-- flags of automoe_jax.main]
#
# Settings: PROCESSES (2), DEVICES per process (4), PORT of the coordinator (random), GRACE (120), seconds in which
# processes must save and stop. Every line of output begins with the number of its process. When one fails, the others
# are stopped; SIGTERM and SIGINT go to all. The exit code is the first one that is not 0.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PROCESSES=${PROCESSES:-2}
DEVICES=${DEVICES:-4}
PORT=${PORT:-$((20000 + RANDOM % 12000))}
GRACE=${GRACE:-120}
read_arguments "$@"
need_python cpu
for name in PROCESSES DEVICES PORT GRACE; do need_count "$name"; done

pids=()      # of the processes that still run, by number
first_code=0 # the first exit code that is not 0
deadline=""  # seconds since the start at which processes that are stopping are killed

say() { echo "launch/local.sh: $*" >&2; }

# Prefixes the lines of stdin with the number of their process; of a progress bar, prints the last state.
number_lines() {
  trap '' INT TERM # it ends when its process ends
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    line=${line%$'\r'}
    printf '[%s] %s\n' "$1" "${line##*$'\r'}"
  done
}

start() {
  local flags="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$DEVICES"
  local command=(env JAX_PLATFORMS=cpu XLA_FLAGS="$flags" "$PYTHON" "${MAIN[@]}"
    --coordinator=127.0.0.1:"$PORT" --processes="$PROCESSES" --process="$1")
  show "${command[@]}"
  $DRY_RUN && return
  # A separate process group (-m): otherwise bash makes it ignore SIGINT, and Ctrl-C reaches it twice.
  set -m
  "${command[@]}" </dev/null > >(number_lines "$1") 2>&1 &
  pids[$1]=$!
  set +m
}

# stop SIGNAL: sends the signal to all running processes and sets the deadline
stop() {
  ((${#pids[@]})) || return 0
  kill -s "$1" "${pids[@]}" 2>/dev/null || true
  deadline=${deadline:-$((SECONDS + GRACE))}
}

# shellcheck disable=SC2329  # called by the traps
interrupt() {
  say "got SIG$1 and passes it on to every process"
  stop "$1"
}

# ended NUMBER CODE: the first failure stops the others
ended() {
  unset "pids[$1]"
  (($2 && !first_code)) || return 0
  first_code=$2
  if ((${#pids[@]})) && [[ -z $deadline ]]; then
    say "process $1 ended with exit code $2; stopping the others"
    stop TERM
  else
    say "process $1 ended with exit code $2"
  fi
}

# Waits for every process, in any order. Polling works in every bash; `wait -n` needs a new one.
watch() {
  local number code
  while ((${#pids[@]})); do
    for number in "${!pids[@]}"; do
      kill -0 "${pids[$number]}" 2>/dev/null && continue
      code=0
      wait "${pids[$number]}" || code=$?
      ended "$number" "$code"
    done
    if [[ -n $deadline ]] && ((SECONDS >= deadline && ${#pids[@]})); then
      say "process ${!pids[*]} did not stop within $GRACE seconds; killing"
      stop KILL
      deadline=$((SECONDS + GRACE))
    fi
    sleep 0.1 || true # Ctrl-C ends it too
  done
}

trap 'interrupt TERM' TERM
trap 'interrupt INT' INT
for ((number = 0; number < PROCESSES; number++)); do start "$number"; done
$DRY_RUN || watch
wait # for the last lines
exit "$first_code"
