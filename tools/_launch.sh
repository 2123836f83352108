# shellcheck shell=bash
# Sourced by dist_train.sh and dist_test.sh: the one place that calls torchrun, through _launch.py.

# fail MESSAGE: one sentence, and the exit status of a wrong command line.
fail() {
    echo "error: $1" >&2
    exit 2
}

# launch PROCESSES SCRIPT ARGS...: run a Python script of this folder in PROCESSES processes on this node.
launch() {
    local processes=$1 script=$2 tools rendezvous
    shift 2
    [[ $processes =~ ^[1-9][0-9]*$ ]] || fail "the number of GPUs must be a positive whole number, not '$processes'"
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

    if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]]; then
        rendezvous=(--standalone)  # a free port of its own: two jobs on one machine do not meet
    else
        [[ ${NNODES:-1} == 1 || -n ${MASTER_ADDR:-} ]] || fail "with NNODES=$NNODES set MASTER_ADDR to the first node's address"
        rendezvous=(
            --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}"
        )
    fi

    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"  # runs from a clone that was not installed, too
    exec "${PYTHON:-python}" "$tools/_launch.py" "${rendezvous[@]}" --nproc_per_node="$processes" \
        "$tools/$script" "$@" --launcher pytorch
}
