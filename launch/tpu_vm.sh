#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU slice; after a preemption, requests a new slice and resumes:
#
#     export PROJECT=my-project ZONE=us-west4-a TPU_NAME=automoe ACCELERATOR_TYPE=v5litepod-16
#     export RUNTIME_VERSION=v2-alpha-tpuv5-lite CONFIG=configs/wmt_supernet.py WORKDIR=gs://my-bucket/wmt
#     launch/tpu_vm.sh [--dry_run] [-- flags of automoe_jax.main]
#
# Workers get the last commit of this repository. Settings: SPOT (true), KEEP the TPU after training (false), POLL (60),
# seconds between two checks of the queue. Run it where nothing interrupts it (tmux on a small machine); if it was
# interrupted, run it again.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SPOT=${SPOT:-true}
KEEP=${KEEP:-false}
POLL=${POLL:-60}
WORKDIR_EXAMPLE=gs://my-bucket/demo
read_arguments "$@"
need_variable PROJECT "the Google Cloud project" my-project
need_variable ZONE "the zone with the TPUs" us-west4-a
need_variable TPU_NAME "a name for the TPU and its queued resource" automoe
need_variable ACCELERATOR_TYPE "the kind and size of the slice" v5litepod-16
need_variable RUNTIME_VERSION "the TPU's software version" v2-alpha-tpuv5-lite
need_shared_workdir
need_one_of SPOT true false
need_one_of KEEP true false
need_count POLL
need_tool gcloud "install the Google Cloud CLI and run: gcloud auth login"
need_tool git "install git; it packs the code for the workers"

QUEUE=(gcloud compute tpus queued-resources)
TPU=(gcloud compute tpus tpu-vm)
WHERE=(--project="$PROJECT" --zone="$ZONE")
ARCHIVE=${TMPDIR:-/tmp}/$TPU_NAME.tar.gz
# A preempted worker does not close its connection; without these flags it would stay open for hours.
SSH=(--ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=6)

# Prints the state of the queued resource: ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED ...; nothing if there is none.
state() {
  run "${QUEUE[@]}" list "${WHERE[@]}" --filter="name ~ /$TPU_NAME\$" --format="value(state.state)"
}

create() {
  local spot=()
  if $SPOT; then spot=(--spot); fi
  run "${QUEUE[@]}" create "$TPU_NAME" --node-id="$TPU_NAME" "${WHERE[@]}" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$RUNTIME_VERSION" ${spot[@]+"${spot[@]}"}
}

delete() {
  run "${QUEUE[@]}" delete "$TPU_NAME" "${WHERE[@]}" --force --quiet
}

on_workers() {
  run "${TPU[@]}" ssh "$TPU_NAME" "${WHERE[@]}" --worker=all "${SSH[@]}" --command="$1"
}

# Stops processes that a lost connection left running (they save first), and installs the code.
prepare() {
  local pattern="'[a]utomoe_jax.main'" # the brackets prevent a match of its own command
  run git -C "$ROOT" archive --format=tar.gz --output="$ARCHIVE" HEAD &&
    run "${TPU[@]}" scp "$ARCHIVE" "$TPU_NAME:automoe.tar.gz" "${WHERE[@]}" --worker=all &&
    on_workers "pkill -TERM -f $pattern && timeout 180 pidwait -f $pattern; pkill -KILL -f $pattern; \
mkdir -p automoe && tar -xzf automoe.tar.gz -C automoe && automoe/launch/install.sh tpu"
}

train() {
  on_workers "cd automoe && JAX_PLATFORMS=tpu,cpu .venv/bin/python $(command_line "${MAIN[@]}") --distributed"
}

if $DRY_RUN; then
  echo "# every $POLL seconds, until it says ACTIVE:" && state
  echo "# if there is none:" && create
  echo "# when it is ACTIVE:" && prepare && train
  echo "# after a preemption, and then from the start; and when training is done, unless KEEP=true:" && delete
  exit
fi

git -C "$ROOT" diff --quiet HEAD || echo "note: uncommitted changes do not reach the workers" >&2
state >/dev/null # a wrong project or a missing login ends here, with gcloud's own message
while true; do
  now=$(state) || now=UNKNOWN # the network may fail once
  echo "$(date +%T) $TPU_NAME is ${now:-not there}" >&2
  case $now in
    "") create ;;
    SUSPENDING | SUSPENDED) delete ;;
    FAILED) fail "the request for $TPU_NAME failed; see: ${QUEUE[*]} describe $TPU_NAME ${WHERE[*]}; then delete it and start again" ;;
    ACTIVE)
      if prepare && train; then break; fi
      sleep "$POLL" # a preemption shows with a delay
      now=$(state) || now=UNKNOWN
      [[ $now != ACTIVE ]] || fail "training failed on a TPU that is still there; its output is above. Fix it and run this again," \
        "or delete the TPU, which costs money: ${QUEUE[*]} delete $TPU_NAME ${WHERE[*]} --force"
      ;;
    *) sleep "$POLL" ;;
  esac
done
$KEEP || delete
