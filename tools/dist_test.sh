#!/usr/bin/env bash
# Test with N processes on this machine (or NNODES machines), one GPU each, or on CPUs.
# usage: tools/dist_test.sh CONFIG CHECKPOINT N [arguments of tools/test.py ...]
# environment: PYTHON, PORT, NNODES, NODE_RANK, MASTER_ADDR
set -euo pipefail
root=$(dirname "$0")/..
[ $# -ge 3 ] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
config=$1 checkpoint=$2 processes=$3
shift 3
exec "${PYTHON:-$root/.venv/bin/python}" -m torch.distributed.run \
  --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
  --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
  --nproc-per-node "$processes" \
  "$root/tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
