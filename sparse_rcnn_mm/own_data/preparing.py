"""Converts `RawData` to COCO files for `CocoDataset`.

`prepare` makes the data fit for training: it drops classes without boxes, makes a validation split if there is none,
and sets ids that the COCO metric can work with.
"""
from __future__ import annotations

import json
import os
import random
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparse_rcnn_mm.datasets.masks import lacks_mask
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import INFO

from .raw_data import UNSPLIT, RawData, Split, counted

SEED = 0  # for choosing the validation images if the data has no validation split
VAL_SHARE = 0.2


@dataclass
class PreparedData:
    """A data set ready for `CocoDataset`.

    Attributes:
        root: the folder that file names are relative to.
        classes: name -> category id, in the order of the labels.
        splits: COCO dicts: `train`, `val`, and `test` if there is one.
        said: what was recognized and decided, one line each, to be shown to the user.
        held_out: the file names of the validation split, if it was taken from the training images here.
    """
    root: Path
    classes: dict[str, int]
    splits: dict[str, dict]
    said: list[str]
    held_out: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> dict[str, str]:
        """Write FOLDER/SPLIT.json for every split, and return the absolute paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {}
        for name, coco in self.splits.items():
            paths[name] = str((folder / f'{name}.json').absolute())
            # Several processes may write the same file at once: each writes its own and renames it.
            own = Path(f'{paths[name]}.{os.getpid()}')
            own.write_text(json.dumps({'info': INFO, **coco}))
            own.replace(paths[name])
        return paths


def prepare(raw: RawData, classes: Mapping[str, int] | None = None, split: bool = True,
            keep_out: Collection[str] = ()) -> PreparedData:
    """Make data fit for training.

    Args:
        raw: the data set as it was read.
        classes: name -> category id of a trained model. By default, all classes that have a box in any split.
        split: take a validation split from the training images, if there is none: `keep_out`, else by `SEED`.
        keep_out: file names of images that an earlier training held out, so that its weights were not trained on them.

    Raises:
        UserError: there are too few images to split, or no box belongs to `classes`.
    """
    said = [f'{raw.root}: {raw.form}; ' + '; '.join(
        f'{name or "no splits"}: {part.source} ({part.counts})' for name, part in raw.splits.items())]
    said += raw.notes
    kept, without_area = _without_area(raw.splits)
    if without_area:
        said.append(f'{counted(without_area, "box")} without area skipped')
    found = _used_classes(kept)
    unused = [name for part in kept.values() for name in map(_name, part['categories']) if name not in found]
    for what, key in (('case', str.lower), ('blanks or the form of accents', _plain)):
        alike = Counter(map(key, found))
        if several := [name for name in found if alike[key(name)] > 1]:
            said.append(f'classes whose names differ only in {what} are kept separate: {_listed(several)}')
    if unused and classes is None:
        said.append(f'categories without boxes are dropped: {_listed(list(dict.fromkeys(unused)))}')
    if classes is not None:
        found = _known_classes(found, classes, raw.root, said)
    said.append(f'{len(found)} {"class" if len(found) == 1 else "classes"}: {_listed(list(found))}')
    data = PreparedData(raw.root, dict(found), {name: _with_ids(part, found) for name, part in kept.items()}, said)
    if split:
        _split(data, keep_out)
    return data


def check_left(data: PreparedData) -> None:
    """Report how many boxes of each split and class remain after the filters of `CocoDataset`, and what they drop.

    Raises:
        UserError: a split has no box left.
    """
    names = {category_id: name for name, category_id in data.classes.items()}
    for split, coco in data.splits.items():
        reasons = Counter(map(dropped_as, coco['annotations']))
        counts = Counter(names[box['category_id']] for box in coco['annotations'] if not dropped_as(box))
        dropped = _listed([f'{count} {reason}' for reason, count in reasons.items() if reason])
        if not counts:
            raise UserError(f'no box of the {split} split of {data.root} can be used: ' + (
                f'all are left out ({dropped})' if dropped else 'none has an area and one of the classes'))
        by_class = [f'{name} {count}' for name, count in counts.most_common()]
        data.said.append(f'{split}: {len(coco["images"])} images, {counted(counts.total(), "box")} to use: '
                         f'{_listed(by_class)}' + (f'; left out: {dropped}' if dropped else ''))


def dropped_as(box: dict) -> str:
    """The reason why `CocoDataset` does not train on an annotation; empty if it does."""
    if box.get('ignore'):
        return 'marked as ignore'
    if box.get('segmentation') and lacks_mask(box['segmentation']):
        return 'outlines of fewer than three points'
    return 'crowd or difficult' if box.get('iscrowd') else ''


def _name(category: dict) -> str:
    return category['name']


def _plain(name: str) -> str:
    return ' '.join(unicodedata.normalize('NFC', name).split())


def _listed(names: list[str], limit: int = 20) -> str:
    return ', '.join(names[:limit]) + (f', ... ({len(names) - limit} more)' if len(names) > limit else '')


def _without_area(splits: dict[str, Split]) -> tuple[dict[str, dict], int]:
    """Return copies of the splits without boxes of zero area, and the number of those boxes."""
    kept, count = {}, 0
    for name, part in splits.items():
        boxes = [box for box in part.coco['annotations'] if min(box['bbox'][2:]) > 0]
        count += len(part.coco['annotations']) - len(boxes)
        kept[name] = {**part.coco, 'annotations': boxes}
    return kept, count


def _used_classes(splits: dict[str, dict]) -> dict[str, int]:
    """Name -> category id of all categories with a box. If splits disagree about an id, the first split decides."""
    classes: dict[str, int] = {}
    for part in splits.values():
        used = {box['category_id'] for box in part['annotations']}
        for category in part['categories']:
            if category['id'] in used and category['name'] not in classes:
                free = category['id'] not in classes.values()
                classes[category['name']] = category['id'] if free else max(classes.values()) + 1
    return classes


def _known_classes(found: dict[str, int], classes: Mapping[str, int], root: Path, said: list[str]) -> dict[str, int]:
    if not set(found) & set(classes):
        raise UserError(f'the boxes in {root} are of the classes {_listed(list(found))}; the model knows only '
                        f'{_listed(list(classes))}')
    if unknown := [name for name in found if name not in classes]:
        said.append(f'boxes of classes that the model does not know are skipped: {_listed(unknown)}')
    return dict(classes)


def _with_ids(part: dict, classes: dict[str, int]) -> dict:
    """Set the categories to `classes`, and number annotations from 1: to the COCO metric, 0 means "not matched".

    Boxes marked `ignore` become crowds, since the COCO metric looks at no other mark.
    """
    names = {category['id']: category['name'] for category in part['categories']}
    boxes = [{**box, 'category_id': classes[names[box['category_id']]], 'area': box.get('area') or _area(box),
              'iscrowd': int(bool(box.get('iscrowd') or box.get('ignore')))}
             for box in part['annotations'] if names[box['category_id']] in classes]
    if any(box['id'] < 1 for box in boxes):
        boxes = [{**box, 'id': number} for number, box in enumerate(boxes, start=1)]
    return {'images': part['images'], 'annotations': boxes,
            'categories': [{'id': category_id, 'name': name} for name, category_id in classes.items()]}


def _area(box: dict) -> float:
    return box['bbox'][2] * box['bbox'][3]


def _split(data: PreparedData, keep_out: Collection[str]) -> None:
    """Make sure that there is a training and a validation split, and note how they were made."""
    splits = data.splits
    if UNSPLIT in splits:
        splits['train'] = splits.pop(UNSPLIT)
    if 'train' not in splits:
        unused = [line for line in data.said if line.startswith('not used: ')]
        raise UserError(f'{data.root} has no training split, only {" and ".join(splits)}'
                        + (f' ({"; ".join(unused)})' if unused else ''))
    if 'val' not in splits and 'test' in splits:
        data.said.append('no validation split: validating on the test split')
        splits['val'] = splits['test']
    if 'val' not in splits:
        names = sorted(image['file_name'] for image in splits['train']['images'])
        if len(names) < 2:
            raise UserError(f'{data.root} has only one image: training and validation need at least one each')
        random.Random(SEED).shuffle(names)
        number = max(round(len(names) * VAL_SHARE), 1)
        kept = sorted(set(names) & set(keep_out))
        enough = number / 4 <= len(kept) < len(names)
        data.held_out = kept if enough else sorted(names[:number])
        how = 'as before' if enough else f'by seed {SEED}'
        data.said.append(f'no validation split: {len(data.held_out)} of the {len(names)} images are held out for it '
                         f'{how}')
        splits['val'] = images_of(splits['train'], set(data.held_out))
        splits['train'] = images_of(splits['train'], set(names) - set(data.held_out))
    train, val = ({image['file_name'] for image in splits[name]['images']} for name in ('train', 'val'))
    if train & val:
        data.said.append(f'{len(train & val)} of the {len(val)} validation images are also training images: the AP '
                         'will say little about new images')


def images_of(coco: dict, file_names: set[str]) -> dict:
    """Restrict a COCO dict to some of its images."""
    images = [image for image in coco['images'] if image['file_name'] in file_names]
    ids = {image['id'] for image in images}
    return {**coco, 'images': images, 'annotations': [box for box in coco['annotations'] if box['image_id'] in ids]}
