#!/usr/bin/env bash
# Train under SLURM.
# usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py ...]
# environment: PYTHON, GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS
set -euo pipefail
root=$(dirname "$0")/..
[ $# -ge 3 ] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
partition=$1 job=$2 config=$3
shift 3
exec srun -p "$partition" --job-name="$job" \
  --gres=gpu:"${GPUS_PER_NODE:-8}" --ntasks="${GPUS:-8}" \
  --ntasks-per-node="${GPUS_PER_NODE:-8}" --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "${PYTHON:-$root/.venv/bin/python}" -u "$root/tools/train.py" "$config" --launcher slurm "$@"
