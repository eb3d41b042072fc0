#!/usr/bin/env bash
# Makes .venv with the package, the pinned dependencies and JAX for one kind of device:
#
#     launch/install.sh [--dry_run] cpu|gpu|tpu
#
# For machines that train; for development use `make install`. uv installs a newer Python if the system's is too old, as
# on TPU VMs. Settings: VENV (environment to make; .venv), PYTHON (any Python 3 with pip; python3).
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VENV=${VENV:-$ROOT/.venv}
PYTHON=${PYTHON:-python3}
DEVICE=""
for argument; do
  case $argument in
    --dry_run) DRY_RUN=true ;;
    --help | -h) print_help; exit 0 ;;
    *) DEVICE=$argument ;;
  esac
done
need_tool "$PYTHON" "install Python 3 or set PYTHON to one"
case $DEVICE in
  cpu) PACKAGES=(--editable "$ROOT") ;;
  gpu) PACKAGES=(--editable "${ROOT}[gpu]") ;;
  tpu) PACKAGES=(--editable "${ROOT}[tpu]" gcsfs) ;; # gcsfs: workdirs at gs://
  *) fail "'$DEVICE' is no kind of device; say one: launch/install.sh cpu, gpu or tpu" ;;
esac

export PIP_BREAK_SYSTEM_PACKAGES=1 # installs only uv, on which nothing of the system depends
run "$PYTHON" -m pip install --quiet --disable-pip-version-check uv
[[ -x $VENV/bin/python ]] || run "$PYTHON" -m uv venv --quiet --python='>=3.11,<3.14' "$VENV"
run "$PYTHON" -m uv pip install --quiet --python="$VENV/bin/python" --constraint="$ROOT/requirements.lock" "${PACKAGES[@]}"
