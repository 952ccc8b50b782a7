#!/usr/bin/env bash
# Train with N processes on this machine (or NNODES machines), one GPU each, or on CPUs.
# usage: tools/dist_train.sh CONFIG N [arguments of tools/train.py ...]
# environment: PYTHON, PORT, NNODES, NODE_RANK, MASTER_ADDR
set -euo pipefail
root=$(dirname "$0")/..
[ $# -ge 2 ] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
config=$1 processes=$2
shift 2
exec "${PYTHON:-$root/.venv/bin/python}" -m torch.distributed.run \
  --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
  --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
  --nproc-per-node "$processes" \
  "$root/tools/train.py" "$config" --launcher pytorch "$@"
