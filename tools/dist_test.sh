#!/usr/bin/env bash
# Test in several processes, one a GPU (or, without GPUs, on the CPU):
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several nodes: as in dist_train.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
(($# >= 3)) || fail "usage: $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]"
config=$1 checkpoint=$2 gpus=$3
shift 3
launch "$gpus" test.py "$config" "$checkpoint" "$@"
