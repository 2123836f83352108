"""Functions shared by the commands that test a checkpoint."""
from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.checkpoints import (
    Metadata,
    building,
    published_config,
    read_checkpoint,
    registered_only,
    unwrapped,
)
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import TTA, is_exported
from sparse_rcnn_mm.inference.detector import try_out
from sparse_rcnn_mm.inference.exported import check_not_exported
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.own_data.config import set_test_data
from sparse_rcnn_mm.registry import DATASETS, SCOPE, innermost_dataset
from sparse_rcnn_mm.terminal import say

from .config import load_config, load_test_config
from .exported import exported_metadata
from .runner import Runner


def testing_config(args: argparse.Namespace, tta: bool | str | TTA = False, **fast_form: Any) -> Config:  # noqa: PT028
    """Build the config to test `args.checkpoint`: from `args.config` or the checkpoint, on `args.data` if given.

    The checkpoint may be an exported file.

    Hooks that only training needs are replaced by `FastFormHook` with the settings `fast_form`.

    Args:
        args: the arguments of the command.
        tta: test-time augmentation, as `TTA.of` takes it.
        fast_form: the settings of `FastFormHook`.

    Raises:
        UserError: the arguments do not fit together.
    """
    exported = is_exported(args.checkpoint)
    if exported:
        check_not_exported(args.checkpoint, tta)
    metadata = (exported_metadata(args.checkpoint) if exported else
                Metadata.of(read_checkpoint(args.checkpoint), args.checkpoint))
    args.config = args.config or published_config(args.checkpoint)
    cfg = load_config(args) if args.config else load_test_config(args, metadata)
    if not args.config:
        _follow_work_dir(cfg, args.checkpoint)
    if args.data:
        set_test_data(cfg, args.data, metadata)
    if exported:
        cfg.model = dict(type='ExportedModel', path=args.checkpoint)
        cfg.custom_hooks = []
        return cfg
    cfg.load_from = args.checkpoint
    if tta:
        dataset = innermost_dataset(cfg.test_dataloader.dataset)
        augmentation = TTA.of(tta, dataset.pipeline)
        dataset.pipeline = augmentation.pipeline(dataset.pipeline)
        fast_form['tta'] = asdict(augmentation)
    cfg.custom_hooks = [dict(type='FastFormHook', **fast_form)]
    return cfg


def _follow_work_dir(cfg: Config, checkpoint: str) -> None:
    """Use the annotation file beside the checkpoint if its work dir was moved or renamed since the training."""
    loader = cfg.get('test_dataloader') or {}
    written = innermost_dataset(loader['dataset']).get('ann_file') if 'dataset' in loader else None
    here = Path(checkpoint).absolute().parent / 'data' / Path(written or '').name
    if not written or Path(written).parent.name != 'data' or Path(written).exists() or not here.is_file():
        return
    innermost_dataset(loader['dataset']).ann_file = str(here)
    for metric in cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]:
        if metric.get('ann_file') == written:
            metric.ann_file = str(here)
    say(f'{written} is gone: testing on {here}')


def add_voc_metric(cfg: Config) -> None:
    """Make the test also compute the metric of Pascal VOC, on the annotations of the first other metric."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    first = next((one for one in evaluators if one.get('ann_file')), None)
    if first is None:
        raise UserError("Pascal VOC's metric needs an annotation file, but no metric of the config has an ann_file")
    kinds = first.get('metric', 'bbox')
    kinds = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind in ('bbox', 'segm')] or ['bbox']
    if not any(one.get('type') == 'PascalVocMetric' for one in evaluators):
        cfg.test_evaluator = [*evaluators, dict(type='PascalVocMetric', ann_file=first['ann_file'], metric=kinds)]


def dump_predictions(cfg: Config, path: str) -> None:
    """Make the test also write all predictions to the pickle file `path`."""
    evaluator = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    cfg.test_evaluator = [*evaluator, dict(type='DumpDetResults', out_file_path=path)]


class Tested(NamedTuple):
    """The result of a test: the metrics by name, and the data set."""
    metrics: dict[str, float]
    dataset: BaseDataset


def run_test(cfg: Config) -> Tested:
    """Run a test with a config from `testing_config`. From a config in a checkpoint, only registered classes are built.

    Raises:
        UserError: the model or the data cannot be built from the config in a checkpoint, or the test failed.
    """
    if cfg.filename:
        runner = Runner.from_cfg(cfg)
        return Tested(runner.test(), runner.test_dataloader.dataset)
    with building(cfg.get('load_from') or cfg.model.path):
        runner = Runner.from_cfg(cfg)
        dataset = runner.test_loop.dataloader.dataset
        if isinstance(model := unwrapped(runner.model), SparseRCNN) and len(dataset):
            try_out(model, dataset[0])
    with registered_only():
        return Tested(runner.test(), dataset)


def build_test_dataset(cfg: Config) -> BaseDataset:
    """Build the test data set of a config from `testing_config`.

    Raises:
        UserError: it cannot be built from the config in a checkpoint.
    """
    init_default_scope(SCOPE)
    with nullcontext() if cfg.filename else building(cfg.get('load_from') or cfg.model.path):
        return DATASETS.build(cfg.test_dataloader.dataset)
