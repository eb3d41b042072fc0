#!/usr/bin/env bash
# Trains on this machine's NVIDIA GPUs, all in one process (CUDA_VISIBLE_DEVICES=0,1 selects some):
#
#     CONFIG=configs/wmt_supernet.py WORKDIR=runs/wmt launch/gpu.sh [--dry_run] [-- flags of automoe_jax.main]
#
# Run launch/install.sh gpu once before. The same command again resumes the run.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

read_arguments "$@"
need_python gpu
need_tool nvidia-smi "install NVIDIA's driver, or train on the CPU: make demo"

# cuda,cpu: without a working CUDA this fails; JAX alone would continue slowly on the CPU.
become env JAX_PLATFORMS=cuda,cpu "$PYTHON" "${MAIN[@]}"
