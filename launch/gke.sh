#!/usr/bin/env bash
# Trains on a TPU slice of the Google Kubernetes Engine cluster that kubectl is configured for, as a JobSet:
#
#     export NAME=automoe IMAGE=REGISTRY/automoe ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x8
#     export CONFIG=configs/wmt_supernet.py WORKDIR=gs://my-bucket/wmt
#     launch/gke.sh [--dry_run] [-- flags of automoe_jax.main]
#
# launch/Dockerfile builds IMAGE; CONFIG is a path in it. Settings: CHIPS per host (4), SPOT (true), RESTARTS (20) after
# failures and preemptions, SERVICE_ACCOUNT (default) with access to the bucket. The same command again replaces the
# JobSet of that name and resumes.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export CHIPS=${CHIPS:-4} SPOT=${SPOT:-true} RESTARTS=${RESTARTS:-20} SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-default}
PYTHON=${PYTHON:-python3}
WORKDIR_EXAMPLE=gs://my-bucket/demo
read_arguments "$@"
need_variable NAME "a name for the JobSet" automoe
need_variable IMAGE "the container image that launch/Dockerfile builds" us-docker.pkg.dev/my-project/my-repository/automoe
need_variable ACCELERATOR "the nodes' label cloud.google.com/gke-tpu-accelerator" tpu-v5-lite-podslice
need_variable TOPOLOGY "the nodes' label cloud.google.com/gke-tpu-topology" 4x8
need_shared_workdir
need_one_of SPOT true false
for name in CHIPS RESTARTS; do need_count "$name"; done
[[ $TOPOLOGY =~ ^[1-9][0-9]*(x[1-9][0-9]*)+$ ]] || fail "TOPOLOGY=$TOPOLOGY is not of the form 4x8 or 4x4x4"
slice=$((${TOPOLOGY//x/*}))
((slice % CHIPS == 0)) || fail "a slice of $TOPOLOGY has $slice chips, which CHIPS=$CHIPS does not divide; set CHIPS to the number of chips of a host"
export NAME IMAGE ACCELERATOR TOPOLOGY HOSTS=$((slice / CHIPS))
need_tool kubectl "install it and point it at the cluster: gcloud container clusters get-credentials CLUSTER"
command -v "$PYTHON" >/dev/null || fail "there is no '$PYTHON' on this machine; set PYTHON to a Python 3; it fills in the JobSet"

# Prints gke_jobset.yaml with every $NAME replaced. The flags become a JSON list, which is valid YAML.
jobset() {
  { if $SPOT; then cat; else grep -v 'SPOT=true'; fi; } <"$ROOT/launch/gke_jobset.yaml" |
    "$PYTHON" -c 'import json, os, string, sys
print(string.Template(sys.stdin.read()).substitute(os.environ, ARGUMENTS=json.dumps(sys.argv[1:])), end="")' "${MAIN[@]}" --distributed
}

JOBSET=$(jobset)
run kubectl delete jobset "$NAME" --ignore-not-found --cascade=foreground
if $DRY_RUN; then
  printf 'kubectl create -f - <<'\''END'\''\n%s\nEND\n' "$JOBSET"
else
  run kubectl create -f - <<<"$JOBSET"
  echo "follow it: kubectl logs --follow --prefix --selector=jobset.sigs.k8s.io/jobset-name=$NAME; stop it: kubectl delete jobset $NAME"
fi
