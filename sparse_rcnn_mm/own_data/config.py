"""A config made to train or test on a folder of one's own data."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.checkpoints import Metadata
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import innermost_dataset
from sparse_rcnn_mm.terminal import say

from .inspection import image_faults
from .layouts import PreparedData, prepare, read_data
from .raw_data import UNSPLIT, RawData


def set_training_data(cfg: Config, folder: str) -> None:
    """Point a config at the data in `folder`: files, class names, and their number in every head.

    Writes WORK_DIR/data/{train,val}.json, and test.json where there is a test split.

    Raises:
        UserError: the data are in no known form, or training would stop at some of them.
    """
    data = prepare(_usable(folder))
    paths = data.write(Path(cfg.work_dir, 'data'))
    say(*data.said, f'written as COCO JSON: {", ".join(paths.values())}')
    for part, split in _splits(paths).items():
        set_dataset(cfg, part, paths[split], data)
    _set_num_classes(cfg, len(data.classes))


def set_test_data(cfg: Config, folder: str, metadata: Metadata) -> None:
    """Point a config at the test split of the data in `folder`, else the validation split, else all of it.

    Class names and ids are those in the checkpoint, whatever the order and ids in the folder. Where training made the
    validation split of this folder by itself, that is what is tested on. Writes WORK_DIR/test_data/SPLIT.json.

    Raises:
        UserError: the data are in no known form, or have none of the classes.
    """
    raw = _usable(folder)
    trained_here = metadata.training_images() == str(raw.root)
    data = prepare(raw, metadata.ids_by_class(), split=trained_here and set(raw.splits) <= {UNSPLIT, 'train'})
    split = next(name for name in ('test', 'val', UNSPLIT, 'train') if name in data.splits)
    data.splits = {split or 'all': data.splits[split]}
    paths = data.write(Path(cfg.work_dir, 'test_data'))
    say(*data.said, f'written as COCO JSON: {", ".join(paths.values())}')
    set_dataset(cfg, 'test', paths[split or 'all'], data)
    _set_num_classes(cfg, len(data.classes))


def _usable(folder: str) -> RawData:
    raw = read_data(folder)
    faults = [*raw.faults, *image_faults(raw)]
    if faults:
        raise UserError(f'{len(faults)} entries of the data in {raw.root} cannot be used, the first: {faults[0].where} '
                        f"{faults[0].what}; 'python tools/inspect_dataset.py {folder}' lists them")
    return raw


def _splits(paths: Mapping[str, str]) -> dict[str, str]:
    return {'train': 'train', 'val': 'val', 'test': 'test' if 'test' in paths else 'val'}


def set_dataset(cfg: Config, part: str, ann_file: str, data: PreparedData) -> None:
    """Set one of the data sets of a config, and the file that its metric reads."""
    dataset = innermost_dataset(cfg[f'{part}_dataloader'].dataset)
    dataset.update(type='CocoDataset', data_root='', ann_file=ann_file, data_prefix=dict(img=str(data.root)),
                   metainfo=dict(classes=tuple(data.classes)))
    evaluator = cfg.get(f'{part}_evaluator') or []
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        if 'ann_file' in metric:
            metric['ann_file'] = ann_file


def _set_num_classes(cfg: Config, number: int) -> None:
    for part in _dicts({key: value for key, value in cfg.model.items() if key != 'backbone'}):
        if 'num_classes' in part:
            part['num_classes'] = number
    if 'num_classes' in cfg:  # the name at the top of the base file, which is written out with the config
        cfg.num_classes = number


def _dicts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        yield from _dicts(item)
