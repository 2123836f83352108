#!/usr/bin/env bash
# Train in several processes, one a GPU (or, without GPUs, on the CPU):
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several nodes: the same on each, with NNODES, NODE_RANK (0 on the first), MASTER_ADDR and, if 29500 is taken, PORT set.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
(($# >= 2)) || fail "usage: $0 CONFIG GPUS [options of tools/train.py]"
config=$1 gpus=$2
shift 2
launch "$gpus" train.py "$config" "$@"
