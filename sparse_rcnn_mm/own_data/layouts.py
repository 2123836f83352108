"""From a folder of images with annotations, in any of three forms, to COCO files that `CocoDataset` reads.

`read_data` recognises the form and reads everything there is; `prepare` makes it fit for training: classes that are in
use, a training and a validation split, ids that the COCO metric can work with.
"""
from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import find_files, is_image
from sparse_rcnn_mm.errors import UserError

from .coco_form import is_coco_json, read_coco_form
from .raw_data import UNSPLIT, RawData, Split
from .voc_form import is_voc_xml, read_voc_form
from .yolo_form import is_yolo_names, read_yolo_form

SEED = 0  # of the split that is made where the data have none
VAL_SHARE = 0.2


def read_data(path: str | os.PathLike) -> RawData:
    """Read a data set in COCO JSON, Pascal VOC XML or YOLO txt.

    Args:
        path: its folder; or one COCO JSON file, or the YAML file of YOLO data.
    Raises:
        UserError: there is nothing of these, or it cannot be read at all.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise UserError(f'there is no folder {path}')
    root = path if path.is_dir() else path.parent
    if path.is_file() and root.name.startswith('annotations'):
        root = root.parent  # COCO's own layout: the images are beside the folder of the JSON files
    files = find_files(root)
    chosen = files if path.is_dir() else [path]
    if jsons := [file for file in chosen if is_coco_json(file)]:
        return read_coco_form(root, files, jsons)
    if names := sorted(filter(is_yolo_names, chosen), key=lambda file: (len(file.parts), file.suffix == '.txt')):
        return read_yolo_form(root, files, names[0])
    if xmls := [file for file in chosen if is_voc_xml(file)]:
        return read_voc_form(root, files, xmls)
    count = sum(map(is_image, files))
    raise UserError(f'{path} holds {count} images, but no annotations in a form known here: COCO JSON files, Pascal '
                    'VOC XML files, or YOLO txt files with a data.yaml or classes.txt that has the class names')


@dataclass
class PreparedData:
    """A data set ready for `CocoDataset`.

    Attributes:
        root: the folder that file names are relative to.
        classes: name -> category id, in the order of the labels.
        splits: COCO dicts; `train` and `val`, and `test` where there is one.
        said: what was recognised and decided, in lines for the user.
    """
    root: Path
    classes: dict[str, int]
    splits: dict[str, dict]
    said: list[str]

    def write(self, folder: Path) -> dict[str, str]:
        """Write FOLDER/SPLIT.json for every split; returns their absolute paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {}
        for name, coco in self.splits.items():
            paths[name] = str((folder / f'{name}.json').absolute())
            # Several processes may write the same: each renames a file of its own.
            own = Path(f'{paths[name]}.{os.getpid()}')
            own.write_text(json.dumps(coco))
            own.replace(paths[name])
        return paths


def prepare(raw: RawData, classes: Mapping[str, int] | None = None, split: bool = True) -> PreparedData:
    """Make data fit for training.

    Args:
        classes: those of a trained model, name -> category id; without, the ones that have a box in any split.
        split: take a validation split from the training images, by `SEED`, where there is none.
    Raises:
        UserError: there are too few images to split, or no box is of `classes`.
    """
    said = [f'{raw.root}: {raw.form}; ' + '; '.join(
        f'{name or "no splits"}: {part.source} ({part.counts})' for name, part in raw.splits.items())]
    said += raw.notes
    kept, without_area = _without_area(raw.splits)
    if without_area:
        said.append(f'{without_area} boxes of no area are left out')
    found = _used_classes(kept)
    unused = [name for part in kept.values() for name in map(_name, part['categories']) if name not in found]
    if unused and classes is None:
        said.append(f'categories without any box are left out: {_listed(list(dict.fromkeys(unused)))}')
    if classes is not None:
        found = _known_classes(found, classes, raw.root, said)
    said.append(f'{len(found)} {"class" if len(found) == 1 else "classes"}: {_listed(list(found))}')
    splits = {name: _with_ids(part, found) for name, part in kept.items()}
    return PreparedData(raw.root, dict(found), _split(splits, raw.root, said) if split else splits, said)


def _name(category: dict) -> str:
    return category['name']


def _listed(names: list[str], limit: int = 20) -> str:
    return ', '.join(names[:limit]) + (f', ... ({len(names) - limit} more)' if len(names) > limit else '')


def _without_area(splits: dict[str, Split]) -> tuple[dict[str, dict], int]:
    """Copies without boxes that have no area, and how many there were."""
    kept, count = {}, 0
    for name, part in splits.items():
        boxes = [box for box in part.coco['annotations'] if min(box['bbox'][2:]) > 0]
        count += len(part.coco['annotations']) - len(boxes)
        kept[name] = {**part.coco, 'annotations': boxes}
    return kept, count


def _used_classes(splits: dict[str, dict]) -> dict[str, int]:
    """Name -> category id of all categories with a box; splits that disagree about an id follow the first."""
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
        raise UserError(f'the boxes in {root} are of {_listed(list(found))}; none is of the classes of the model: '
                        f'{_listed(list(classes))}')
    if unknown := [name for name in found if name not in classes]:
        said.append(f'boxes of classes that the model does not know are left out: {_listed(unknown)}')
    return dict(classes)


def _with_ids(part: dict, classes: dict[str, int]) -> dict:
    """With the categories of `classes`, and annotation ids from 1: the COCO metric takes 0 for "not matched"."""
    names = {category['id']: category['name'] for category in part['categories']}
    boxes = [{**box, 'category_id': classes[names[box['category_id']]], 'area': box.get('area') or _area(box),
              'iscrowd': int(box.get('iscrowd') or 0)}
             for box in part['annotations'] if names[box['category_id']] in classes]
    if any(box['id'] < 1 for box in boxes):
        boxes = [{**box, 'id': number} for number, box in enumerate(boxes, start=1)]
    return {'images': part['images'], 'annotations': boxes,
            'categories': [{'id': category_id, 'name': name} for name, category_id in classes.items()]}


def _area(box: dict) -> float:
    return box['bbox'][2] * box['bbox'][3]


def _split(splits: dict[str, dict], root: Path, said: list[str]) -> dict[str, dict]:
    """Have a training and a validation split, and say how."""
    splits = dict(splits)
    if UNSPLIT in splits:
        splits['train'] = splits.pop(UNSPLIT)
    if 'train' not in splits:
        raise UserError(f'{root} has no training split, only {" and ".join(splits)}')
    if 'val' not in splits and 'test' in splits:
        said.append('no validation split: validating on the test split')
        splits['val'] = splits['test']
    if 'val' not in splits:
        names = sorted(image['file_name'] for image in splits['train']['images'])
        if len(names) < 2:
            raise UserError(f'{root} has one image only: training and validation need one each at least')
        random.Random(SEED).shuffle(names)
        chosen = set(names[:max(round(len(names) * VAL_SHARE), 1)])
        said.append(f'no validation split: {len(chosen)} of the {len(names)} images are taken for it, by seed {SEED}')
        splits['val'] = _images_of(splits['train'], chosen)
        splits['train'] = _images_of(splits['train'], set(names) - chosen)
    return splits


def _images_of(coco: dict, file_names: set[str]) -> dict:
    images = [image for image in coco['images'] if image['file_name'] in file_names]
    ids = {image['id'] for image in images}
    return {**coco, 'images': images, 'annotations': [box for box in coco['annotations'] if box['image_id'] in ids]}
