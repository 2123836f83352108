"""Train a detector: python tools/train.py CONFIG [--data FOLDER]."""
from __future__ import annotations

import argparse

import torch
from mmengine.config import Config

from sparse_rcnn_mm.engine import (
    TRACKERS,
    Runner,
    accumulate,
    add_common_arguments,
    load_config,
    log_to,
    set_training_data,
)
from sparse_rcnn_mm.errors import UserError, one_sentence
from sparse_rcnn_mm.own_data.forms import form_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a detector.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--data', metavar='FOLDER', help=f'train on your own data: a folder with {form_names()}, or '
                        'one of their files')
    parser.add_argument('--load-from', metavar='CHECKPOINT', help='start from the weights of CHECKPOINT')
    parser.add_argument('--load-partial', action='store_true',
                        help='leave out the weights that do not fit, e.g. the classifiers of other classes')
    add_common_arguments(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='go on from CHECKPOINT, or from the last one of the work dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch of all processes over auto_scale_lr.base_batch_size')
    parser.add_argument('--log-to', choices=TRACKERS,
                        help='also send the curves there; default TensorBoard where it is installed')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.data:
        set_training_data(cfg, args.data)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'CPUAmpOptimWrapper'
    if args.auto_scale_lr and not cfg.get('accumulate_to'):  # there `accumulate` scales it
        cfg.auto_scale_lr.enable = True
    set_start(cfg, args)
    log_to(cfg, args.log_to)
    accumulate(cfg)
    Runner.from_cfg(cfg).train()


def set_start(cfg: Config, args: argparse.Namespace) -> None:
    """From which weights training starts."""
    if args.load_from and args.resume:
        raise UserError('--load-from starts a training and --resume goes on with one: give one of them')
    if args.load_from:
        cfg.load_from = args.load_from
        cfg.model.backbone.init_cfg = None  # nothing to fetch: CHECKPOINT has the backbone as well
    if args.load_partial:
        cfg.load_partial = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


if __name__ == '__main__':
    with one_sentence():
        main()
