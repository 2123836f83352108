"""Edits a config so that it trains or tests on a folder of your own data."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from sparse_rcnn_mm.checkpoints import Metadata, read_checkpoint
from sparse_rcnn_mm.checkpoints.metadata import parse_held_out
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.registry import innermost_dataset
from sparse_rcnn_mm.terminal import say, shell_word

from .held_out import find_held_out, held_out_lines
from .inspection import data_errors, leaked_images
from .preparing import PreparedData, check_left, images_of, prepare
from .raw_data import UNSPLIT, RawData
from .reading import read_data

# (digest, file name) of each image that a training held out, as in `Metadata`.
HeldOut = Sequence[tuple[str, str]]


def set_training_data(cfg: Config, folder: str) -> None:
    """Point a config at the data in `folder`: the files, the class names, and `num_classes` of every head.

    Writes WORK_DIR/data/{train,val}.json, and test.json if there is a test split.

    Raises:
        UserError: the format is unknown, the data has errors, or no box is left to train on.
    """
    raw = _usable(folder, with_masks(cfg))
    _keep_apart(raw, cfg.work_dir)
    held_out = _held_out_before(cfg) if raw.splits.keys() <= {UNSPLIT, 'train'} else ()
    data = prepare(raw, keep_out=find_held_out(raw, held_out))
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


def _held_out_before(cfg: Config) -> HeldOut:
    """The images that were held out by the training that this one resumes, or whose weights it starts from."""
    weights, lines = cfg.get('load_from'), Path(cfg.work_dir, 'data', 'held_out.txt')
    if weights and Path(weights).is_file():
        return Metadata.of(read_checkpoint(weights), weights).held_out
    return parse_held_out(lines.read_text().splitlines(), lines) if cfg.get('resume') and lines.is_file() else ()


def set_test_data(cfg: Config, folder: str, metadata: Metadata) -> None:
    """Point a config at the test split in `folder`, else at its validation split, else at all of its data.

    Class names and ids come from the checkpoint, whatever their order and ids in the folder. If training held out a
    part of the folder for validation, only that part is tested on. Writes WORK_DIR/test_data/SPLIT.json.

    Raises:
        UserError: the format is unknown, or the data has none of the checkpoint's classes.
    """
    data = read_test_split(folder, metadata.ids_by_class(), [metadata.held_out], cfg.work_dir, with_masks(cfg))
    path, = _write(data, Path(cfg.work_dir, 'test_data')).values()
    set_dataset(cfg, 'test', path, data)
    _set_num_classes(cfg, len(data.classes))


def read_test_split(folder: str, classes: Mapping[str, int] | None, held_out: Sequence[HeldOut],
                    out_dir: str, masks: bool = False) -> PreparedData:
    """Read the test split in `folder`, else its validation split, else all of its data, as the only split.

    Args:
        folder: the data, in any form.
        classes: name -> category id, as `prepare` takes them.
        held_out: what the training of each model held out. If it is a part of `folder`, only that part remains.
        out_dir: the folder that the results will be written to.
        masks: as in `read_data`.

    Raises:
        UserError: the format is unknown, the data has none of the classes, or no image was held out by all trainings.
    """
    raw = _usable(folder, masks)
    _keep_apart(raw, out_dir)
    data = prepare(raw, classes, split=False)
    if set(data.splits) <= {UNSPLIT, 'train'}:
        _hold_out(data, raw, held_out)
    split = next(name for name in ('test', 'val', UNSPLIT, 'train') if name in data.splits)
    data.splits = {split or 'all': data.splits[split]}
    return data


def _write(data: PreparedData, folder: Path) -> dict[str, str]:
    check_left(data)
    mark(folder.parent)
    mark(folder)
    paths = data.write(folder)
    say(*data.said, f'written as COCO JSON: {", ".join(paths.values())}')
    return paths


def _hold_out(data: PreparedData, raw: RawData, held_out: Sequence[HeldOut]) -> None:
    """Keep only the images that every training held out: the models may have been trained on the others."""
    by_model = [found for images in held_out if images and (found := find_held_out(raw, images))]
    coco, = data.splits.values()
    if by_model:
        found = set.intersection(*by_model)
        if not found:
            raise UserError(f'no image in {data.root} was held out by both trainings, so one of the models was trained '
                            'on each of them: give images that are new to both')
        data.said.append(f'testing on {len(found)} of the {len(coco["images"])} images, those that training held out')
        missing = max(map(len, held_out)) - len(found)
        if missing > 0 and len(held_out) == 1:
            data.said.append(f'{missing} more that training held out are not here, or were changed')
        data.splits = {'val': images_of(coco, found)}
    elif {name for images in held_out for _, name in images} & {ascii(one['file_name'])[1:-1]
                                                                for one in coco['images']}:
        data.said.append('no image has the content of one that training held out, but some have their names: if this '
                         'is the training data, saved anew, the model was trained on most of it')


def _keep_apart(raw: RawData, work_dir: str) -> None:
    if Path(work_dir).resolve() == raw.root:
        raise UserError(f'the work dir {raw.root} is also the data folder: choose another one with --work-dir')


def with_masks(cfg: Config) -> bool:
    """Whether a config trains or evaluates masks: it has the step `LoadMasks`, or a metric of `segm`."""
    loads = any(part.get('type') == 'LoadMasks' for part in _dicts(cfg.get('train_dataloader') or {}))
    evaluators = [cfg.get(f'{part}_evaluator') or [] for part in ('val', 'test')]
    return loads or any('segm' in np.atleast_1d(part.get('metric', '')) for part in _dicts(evaluators))


def _usable(folder: str, masks: bool) -> RawData:
    raw = read_data(folder, masks)
    errors = data_errors(raw)
    if errors:
        raise UserError(f'{len(errors)} {"error" if len(errors) == 1 else "errors"} in the data in {raw.root}, the '
                        f'first: {errors[0]}; list all: sparse-rcnn inspect ' + shell_word(folder, 'FOLDER'))
    return raw


def _splits(paths: Mapping[str, str]) -> dict[str, str]:
    return {'train': 'train', 'val': 'val', 'test': 'test' if 'test' in paths else 'val'}


def set_dataset(cfg: Config, part: str, ann_file: str, data: PreparedData) -> None:
    """Set the data set of one part of a config (train, val or test), and the annotation file of its metric."""
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
    if 'num_classes' in cfg:  # the variable at the top of the base config; it is saved with the config
        cfg.num_classes = number


def _dicts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        yield from _dicts(item)
