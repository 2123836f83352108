#!/usr/bin/env bash
# Check everything that only a GPU can show, in about twenty minutes: bash tools/gpu_check.sh [FOLDER]
# Equality with the CPU, AMP, compiled stages, training and resuming by torchrun on one GPU, and speed against mmdet
# (if mmcv has compiled operations). FOLDER (work_dirs/gpu_check) gets one log for each check.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-work_dirs/gpu_check}
mkdir -p "$out"
export PYTHON=${PYTHON:-python} OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
failed=0

# check NAME COMMAND...: run a command, with its output in a log, and print whether it worked.
check() {
    local name=$1 start=$SECONDS state=ok
    shift
    "$@" >"$out/$name.log" 2>&1 || { state="FAILED, see $out/$name.log"; failed=1; }
    printf '%-22s %5d s  %s\n' "$name" $((SECONDS - start)) "$state"
}

config=sparse_rcnn_r18_digits
short=(--cfg-options train_cfg.max_iters=60 train_cfg.val_interval=60 default_hooks.checkpoint.interval=30)

"$PYTHON" -c 'import sys, torch; print(torch.cuda.get_device_name(), "torch", torch.__version__) if torch.cuda.is_available() else sys.exit("error: torch finds no GPU")' || exit 1
check doctor "$PYTHON" -m sparse_rcnn_command doctor
check equality "$PYTHON" -m pytest -m '' tests/gpu
check data "$PYTHON" tools/make_digits.py --out data/digits
check training "$PYTHON" tools/train.py "$config" --work-dir "$out/training" "${short[@]}"
check training-amp "$PYTHON" tools/train.py "$config" --amp --work-dir "$out/amp" "${short[@]}"
check training-torchrun bash tools/dist_train.sh "$config" 1 --work-dir "$out/torchrun" "${short[@]}"
check resuming bash tools/dist_train.sh "$config" 1 --work-dir "$out/torchrun" --resume --cfg-options train_cfg.max_iters=90
check testing "$PYTHON" tools/test.py "$config" "$out/training/iter_60.pth"
for mode in "" --train; do
    check "speed$mode" "$PYTHON" tools/benchmark.py sparse_rcnn_r50_3x $mode --against mmdet
    check "speed-300$mode" "$PYTHON" tools/benchmark.py sparse_rcnn_r50_300pro_3x $mode --against mmdet
done
check speed-compiled "$PYTHON" tools/benchmark.py sparse_rcnn_r50_3x --compile --against mmdet
grep -H 'mmdet / ours' "$out"/speed*.log
exit $failed
