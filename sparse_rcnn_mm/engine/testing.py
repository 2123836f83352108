"""What the tools that test a checkpoint share."""
from __future__ import annotations

import argparse
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.checkpoints import read_checkpoint

from .config import load_config, load_test_config
from .own_data import test_on


def testing_config(args: argparse.Namespace, **fast_form: Any) -> Config:
    """The config to test `args.checkpoint` with: of `args.config`, or inside the checkpoint; on `args.data` if given.

    In place of the hooks that only training needs it has `FastFormHook`, with the settings `fast_form`.
    """
    contents = read_checkpoint(args.checkpoint)
    cfg = load_config(args) if args.config else load_test_config(args, contents)
    if args.data:
        test_on(cfg, args.data, contents)
    cfg.load_from = args.checkpoint
    cfg.custom_hooks = [dict(type='FastFormHook', **fast_form)]
    return cfg


def dump_predictions(cfg: Config, path: str) -> None:
    """Let the test write all predictions to the pickle file `path`, too."""
    evaluator = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    cfg.test_evaluator = [*evaluator, dict(type='DumpDetResults', out_file_path=path)]
