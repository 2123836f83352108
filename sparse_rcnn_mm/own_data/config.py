"""A config made to train or test on a folder of one's own data."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.checkpoints import Metadata
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.registry import innermost_dataset
from sparse_rcnn_mm.terminal import say, shell_word

from .held_out import find_held_out, held_out_lines
from .inspection import data_errors, leaked_images
from .preparing import PreparedData, check_left, images_of, prepare
from .raw_data import UNSPLIT, RawData
from .reading import read_data


def set_training_data(cfg: Config, folder: str) -> None:
    """Point a config at the data in `folder`: files, class names, and their number in every head.

    Writes WORK_DIR/data/{train,val}.json, and test.json where there is a test split.

    Raises:
        UserError: the data are in no known form, have errors, or nothing of them is left to train on.
    """
    raw = _usable(folder)
    _keep_apart(raw, cfg.work_dir)
    data = prepare(raw)
    if leaked := leaked_images(raw):
        data.said.append(f'warning: images in two splits: {len(leaked)}, so the AP will be too high; the first: '
                         f'{leaked[0]}')
    paths = _write(data, Path(cfg.work_dir, 'data'))
    for part, split in _splits(paths).items():
        set_dataset(cfg, part, paths[split], data)
    if data.held_out:
        path = Path(cfg.work_dir, 'data', 'held_out.txt').absolute()
        path.write_text('\n'.join(held_out_lines(data.root, data.held_out)) + '\n')
        # mmengine reads the file into the data set's `metainfo`, which goes into every checkpoint
        innermost_dataset(cfg.train_dataloader.dataset).metainfo['held_out'] = str(path)
    _set_num_classes(cfg, len(data.classes))


def set_test_data(cfg: Config, folder: str, metadata: Metadata) -> None:
    """Point a config at the test split of the data in `folder`, else the validation split, else all of it.

    Class names and ids are those in the checkpoint, whatever the order and ids in the folder. Where training made the
    validation split by itself, that is what is tested on. Writes WORK_DIR/test_data/SPLIT.json.

    Raises:
        UserError: the data are in no known form, or have none of the classes.
    """
    raw = _usable(folder)
    _keep_apart(raw, cfg.work_dir)
    data = prepare(raw, metadata.ids_by_class(), split=False)
    if metadata.held_out and set(data.splits) <= {UNSPLIT, 'train'}:
        _hold_out(data, raw, metadata)
    split = next(name for name in ('test', 'val', UNSPLIT, 'train') if name in data.splits)
    data.splits = {split or 'all': data.splits[split]}
    paths = _write(data, Path(cfg.work_dir, 'test_data'))
    set_dataset(cfg, 'test', paths[split or 'all'], data)
    _set_num_classes(cfg, len(data.classes))


def _write(data: PreparedData, folder: Path) -> dict[str, str]:
    check_left(data)
    mark(folder.parent)
    mark(folder)
    paths = data.write(folder)
    say(*data.said, f'written as COCO JSON: {", ".join(paths.values())}')
    return paths


def _hold_out(data: PreparedData, raw: RawData, metadata: Metadata) -> None:
    """Leave only the images on which the model was validated: the others may be those that it was trained on."""
    found = find_held_out(raw, metadata.held_out)
    coco, = data.splits.values()
    if found:
        data.said.append(f'testing on {len(found)} of the {len(coco["images"])} images: those that training held out')
        data.splits = {'val': images_of(coco, found)}


def _keep_apart(raw: RawData, work_dir: str) -> None:
    if Path(work_dir).resolve() == raw.root:
        raise UserError(f'the work dir {raw.root} is the folder of the data: give another one by --work-dir')


def _usable(folder: str) -> RawData:
    raw = read_data(folder)
    errors = data_errors(raw)
    if errors:
        raise UserError(f'{len(errors)} {"error" if len(errors) == 1 else "errors"} in the data in {raw.root}, the '
                        f'first: {errors[0]}; all are listed by: python tools/inspect_dataset.py '
                        + shell_word(folder, 'FOLDER'))
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
