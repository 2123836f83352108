"""Training and evaluation in one function call each. The command line calls the same functions."""
from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import TTA
from sparse_rcnn_mm.own_data.config import set_training_data
from sparse_rcnn_mm.own_outputs import mark

from .batch import accumulate
from .config import load_config
from .hooks import InferenceCheckpointHook, saved_checkpoint
from .hooks import log_to as send_curves_to
from .restarts import refuse_earlier_training, restarts
from .runner import Runner
from .testing import add_voc_metric, dump_predictions, run_test, testing_config

PathLike = str | os.PathLike


def train(config: PathLike, data: PathLike | None = None, *, load_from: PathLike | None = None,
          load_partial: bool = False, resume: PathLike | bool | None = None, work_dir: PathLike | None = None,
          cfg_options: Mapping[str, Any] | None = None, amp: bool = False, auto_scale_lr: bool = False,
          log_to: str | None = None, launcher: str = 'none') -> Path | None:
    """Train a detector.

    Args:
        config: a config file, or the name of a published one, such as sparse_rcnn_r50_finetune.
        data: a folder of your own data: COCO JSON, Pascal VOC XML or YOLO txt; or one COCO JSON file.
        load_from: start from these weights: a file, an address or the name of published ones.
        load_partial: skip the weights that do not fit.
        resume: resume from this checkpoint; True (or 'auto') for the last one in the work dir.
        work_dir: folder for logs and checkpoints; default work_dirs/CONFIG-NAME.
        cfg_options: settings of the config to change, such as {'train_cfg.max_epochs': 10}.
        amp: mixed precision, float16 on a GPU and bfloat16 on a CPU.
        auto_scale_lr: scale the learning rate by the total batch size over auto_scale_lr.base_batch_size.
        log_to: a tracker that also gets the curves.
        launcher: how several processes were started: none, pytorch, slurm or mpi.

    Returns:
        The path of the checkpoint to use: the compact one for inference if there is one, else the best, else the last.

    Raises:
        UserError: the config, the data or the weights cannot be used, or the work dir contains an earlier training.

    Example:
        >>> import sparse_rcnn_mm
        >>> best = sparse_rcnn_mm.train('sparse_rcnn_r50_finetune', 'photos', load_from='sparse_rcnn_r50_3x')
    """
    if load_from and resume:
        raise UserError('--load-from starts a new training and --resume continues one: use only one of them')
    cfg = load_config(_arguments(config=os.fspath(config), work_dir=work_dir, cfg_options=cfg_options,
                                 launcher=launcher))
    _set_start(cfg, load_from, resume)
    if not (cfg.get('resume') or restarts()):  # the Runner asks again, once the processes of a restart can agree
        refuse_earlier_training(cfg.work_dir, cfg.get('default_hooks'))
    if data:
        set_training_data(cfg, os.fspath(data))
    if amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'CPUAmpOptimWrapper'
    if auto_scale_lr and not cfg.get('accumulate_to'):  # otherwise `accumulate` scales it
        if cfg.optim_wrapper.get('accumulative_counts', 1) != 1:
            raise UserError('--auto-scale-lr does not know of optim_wrapper.accumulative_counts: set accumulate_to '
                            'instead, the number of images per step')
        cfg.auto_scale_lr.enable = True
    if load_partial:
        cfg.load_partial = True
    send_curves_to(cfg, log_to)
    accumulate(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return _to_use(runner)


def evaluate(checkpoint: PathLike, data: PathLike | None = None, *, config: PathLike | None = None,
             work_dir: PathLike | None = None, cfg_options: Mapping[str, Any] | None = None, precision: str = 'fp32',
             compile: bool = False, tta: bool | str | TTA = False, out: PathLike | None = None,
             show_dir: PathLike | None = None, voc_metric: bool = False, launcher: str = 'none') -> dict[str, float]:
    """Compute the COCO metric of a checkpoint.

    Args:
        checkpoint: a file, or the name of published weights.
        data: a folder of your own data: its test split, else the validation split, else all of it.
        config: a config file or the name of one; by default, the config inside the checkpoint.
        work_dir: folder for logs; by default, the folder of the checkpoint.
        cfg_options: settings of the config to change.
        precision: fp32, bf16 or fp16.
        compile: use torch.compile.
        tta: test-time augmentation: True, 'official' or a `TTA`; see `Detector.from_checkpoint`.
        out: write all predictions to this pickle file.
        show_dir: draw the detections of every image into this folder.
        voc_metric: compute the metric of Pascal VOC, too.
        launcher: how several processes were started.

    Returns:
        The metrics by name, such as {'coco/bbox_mAP': 0.45, 'coco/bbox_mAP_50': ...}.

    Raises:
        UserError: the checkpoint, the config or the data cannot be used.

    Example:
        >>> import sparse_rcnn_mm
        >>> sparse_rcnn_mm.evaluate('work_dirs/sparse_rcnn_r50_finetune/inference.pth', 'photos')['coco/bbox_mAP']
    """
    if out and not os.fspath(out).endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {out} must end in .pkl')
    cfg = testing_config(_arguments(checkpoint=os.fspath(checkpoint), config=config, work_dir=work_dir,
                                    cfg_options=cfg_options, launcher=launcher, data=data and os.fspath(data)),
                         tta, precision=precision, compile=compile)
    if show_dir:
        folder = Path(show_dir).expanduser().absolute()  # the hook resolves relative paths against the work dir
        mark(folder)
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=str(folder))
    if voc_metric:
        add_voc_metric(cfg)
    if out:
        dump_predictions(cfg, os.fspath(out))
    return run_test(cfg).metrics


def _arguments(cfg_options: Mapping[str, Any] | None, work_dir: PathLike | None, **others: Any) -> argparse.Namespace:
    """The command-line arguments that `load_config` takes."""
    return argparse.Namespace(cfg_options=dict(cfg_options or {}),
                              work_dir=work_dir and os.path.expanduser(work_dir), **others)


def _set_start(cfg: Config, load_from: PathLike | None, resume: PathLike | bool | None) -> None:
    """Set the weights that training starts from."""
    if load_from:
        cfg.load_from, cfg.resume = os.fspath(load_from), False
        cfg.model.backbone.init_cfg = None  # do not download: the checkpoint contains the backbone
    if resume:
        cfg.resume = True
        cfg.load_from = None if resume is True or resume == 'auto' else os.path.expanduser(resume)


def _to_use(runner: Runner) -> Path | None:
    compact = [Path(runner.work_dir, hook.name) for hook in runner.hooks if isinstance(hook, InferenceCheckpointHook)]
    return next((path for path in compact if path.is_file()), None) or saved_checkpoint(runner)
