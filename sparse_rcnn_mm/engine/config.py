"""Builds the Runner's config from the command line."""
from __future__ import annotations

import argparse
import atexit
import gc
import inspect
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hub import get_config

from sparse_rcnn_mm.backbones import set_backbone
from sparse_rcnn_mm.checkpoints import Metadata
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.errors import UserError

from .augmentation import augment
from .meeting import met
from .runner import Runner
from .settings import SettingsAction, settings_like

# The top-level settings that the Runner and the commands read. Other names are variables of the config itself.
_TOP_LEVEL = {*inspect.signature(Runner.__init__).parameters, 'load_partial', 'custom_imports', 'sync_bn',
              'find_unused_parameters', 'model_wrapper_cfg', 'compile', 'accumulate_to', 'fast_training',
              'augmentation', 'layer_decay', 'frozen_stages', 'lora'}
_RUNTIME = 'sparse_rcnn_mm::configs/_base_/default_runtime.py'
_UNREADABLE = (SyntaxError, NameError, KeyError, FileNotFoundError, TypeError, IndexError)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default: work_dirs/CONFIG-NAME')
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, default={}, metavar='KEY=VALUE',
                        help='change settings of the config, e.g. model.rpn_head.num_proposals=300; '
                        'a list is key="[a,b]"; backbone=NAME takes another backbone, of mmdet or timm')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes were started; the dist_*.sh scripts set it')


def load_config(args: argparse.Namespace) -> Config:
    """Load the config file `args.config` and apply the changes from the command line.

    Raises:
        UserError: the file is missing or broken, or an option names an unknown setting.
    """
    cfg = config_from_file(args.config)
    _apply(cfg, args, args.config)
    augment(cfg)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    return cfg


def load_test_config(args: argparse.Namespace, metadata: Metadata) -> Config:
    """Build a config to test a checkpoint: model and data from the config stored in it, everything else from here.

    The work dir is the checkpoint's folder, unless another is given.

    Raises:
        UserError: the checkpoint has no config, its config contains something unsafe, or an option names an unknown
            setting.
    """
    stored = metadata.config()
    runtime = get_config(_RUNTIME).to_dict()
    for hook in ('checkpoint', 'param_scheduler', 'curves'):
        runtime['default_hooks'].pop(hook)
    cfg = Config({**runtime, 'model': stored.model(), 'test_dataloader': stored.test_dataloader(),
                  'test_evaluator': stored.test_evaluator(), 'test_cfg': {'type': 'TestLoop'}})
    _apply(cfg, args, args.checkpoint)
    cfg.work_dir = args.work_dir or str(Path(args.checkpoint).parent)
    return cfg


def _apply(cfg: Config, args: argparse.Namespace, source: str) -> None:
    """Apply the changes from the command line to the config."""
    options = dict(args.cfg_options)
    if (backbone := options.pop('backbone', None)) is not None:
        set_backbone(cfg, str(backbone))  # before the other options, which may change it
    unused = sorted({key for key in options if key.split('.')[0] not in _TOP_LEVEL})
    if unused:
        settings = {key: cfg[key] for key in cfg if key in _TOP_LEVEL}
        raise UserError(f"unknown setting '{unused[0]}'{settings_like(unused[0], settings)} (it would change nothing)")
    try:
        cfg.merge_from_dict(options)
    except _UNREADABLE as error:
        raise UserError(f'the config {source} cannot be changed: {error}') from error
    cfg.launcher = args.launcher
    if args.launcher != 'none' and not torch.cuda.is_available():
        _prepare_cpu_processes(cfg)


def _prepare_cpu_processes(cfg: Config) -> None:
    """Connect several processes without GPUs by gloo. Otherwise mmengine would select a GPU in each of them."""
    if args_missing := {'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'} - set(os.environ):
        raise UserError(f'--launcher {cfg.launcher} without a GPU needs the environment variables '
                        f'{", ".join(sorted(args_missing))}; start the command with --gpus N instead, or with torchrun')
    torch.distributed.init_process_group('gloo', **met())
    atexit.register(_end_gloo)
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)


def _end_gloo() -> None:
    """Stop gloo's threads while Python still runs: a thread that frees a tensor at exit would abort the process."""
    gc.collect()  # the model is in reference cycles, and keeps the process group alive
    torch.distributed.destroy_process_group()
