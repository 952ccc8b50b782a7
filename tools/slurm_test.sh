#!/usr/bin/env bash
# Test under SLURM.
# usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py ...]
# environment: PYTHON, GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS
set -euo pipefail
root=$(dirname "$0")/..
[ $# -ge 4 ] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
exec srun -p "$partition" --job-name="$job" \
  --gres=gpu:"${GPUS_PER_NODE:-8}" --ntasks="${GPUS:-8}" \
  --ntasks-per-node="${GPUS_PER_NODE:-8}" --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "${PYTHON:-$root/.venv/bin/python}" -u "$root/tools/test.py" "$config" "$checkpoint" --launcher slurm "$@"
