"""Data sets in COCO JSON: which files hold boxes, and in which folder their images are."""
from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sparse_rcnn_mm.datasets.coco_json import entry_faults, structure_fault
from sparse_rcnn_mm.datasets.image_files import image_size, is_image
from sparse_rcnn_mm.errors import UserError

from .raw_data import UNSPLIT, Fault, RawData, Split, relative, split_of

_SAMPLE = 50  # images that are looked for in every folder
_SINGULAR = {'categories': 'category', 'images': 'image', 'annotations': 'annotation'}


def is_coco_json(path: Path) -> bool:
    """Whether a JSON file may hold boxes in COCO form, by the keys that its text names."""
    if path.suffix.lower() != '.json':
        return False
    text = path.read_bytes()
    return b'"images"' in text and b'"annotations"' in text


def read_coco_form(root: Path, files: list[Path], paths: list[Path]) -> RawData:
    """Read a data set of one JSON file a split.

    Args:
        files: all files below `root`; images are looked for among them.
        paths: the JSON files.
    """
    data = RawData(root, 'COCO JSON', {})
    images = [path for path in files if is_image(path)]
    for name, path in _one_a_split(root, paths).items():
        split = read_coco_split(path, root, partial(_image_folder, name, path, root, images), data.faults)
        if split.coco['annotations']:
            data.splits[name] = split
        else:
            data.notes.append(f'{split.source} has no boxes and is left out')
    if not data.splits:
        raise UserError(f'no JSON file in {root} has any box')
    return data


def read_coco_split(path: Path, root: Path, folder: Path | Callable[[list[str]], Path], faults: list[Fault]) -> Split:
    """Read one JSON file; entries with faults are left out and added to `faults`.

    Args:
        folder: that of the images, or how to find it by their names.
    """
    coco = _parse(path)
    named = [image for image in coco['images'] if isinstance(image, dict) and isinstance(image.get('file_name'), str)]
    if not isinstance(folder, Path):
        folder = folder([image['file_name'] for image in named])
    for image in named:
        found = folder / image['file_name']
        image['file_name'] = relative(found, root)
        if not (image.get('width') or image.get('height')):
            size = image_size(str(found))
            image.update({} if size.fault else {'width': size.width, 'height': size.height})
    source = relative(path, root)
    return Split(source, _without_faults(coco, source, faults))


def _one_a_split(root: Path, paths: list[Path]) -> dict[str, Path]:
    """Choose `instances_*` where COCO's other kinds lie beside, and those with a split over those without."""
    instances = [path for path in paths if path.stem.startswith('instances')]
    chosen: dict[str, list[Path]] = {}
    for path in instances or paths:
        chosen.setdefault(split_of(Path(relative(path, root))), []).append(path)
    if len(chosen) > 1:
        chosen.pop(UNSPLIT, None)
    for name, several in chosen.items():
        if len(several) > 1:
            shown = ', '.join(relative(path, root) for path in several[:3])
            raise UserError(f'{len(several)} JSON files in {root} could hold the {name or "only"} split ({shown}): '
                            'name them by their split (train, val, test), or give one file instead of the folder')
    return {name: several[0] for name, several in chosen.items()}


def _parse(path: Path) -> dict:
    try:
        coco = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f'annotation file {path} is not valid JSON: {error}') from error
    fault = structure_fault(coco)
    if fault:
        raise UserError(f'annotation file {path} {fault}')
    return coco


def _image_folder(split: str, path: Path, root: Path, images: list[Path], names: list[str]) -> Path:
    """The folder in which most of a sample of the images are: of several, that of the split, or the JSON file's."""
    if not names:
        return root
    sample = names[::max(len(names) // _SAMPLE, 1)]
    known = set(map(str, images))
    folders = {root, path.parent}.union(*(image.parents for image in images))

    def fit(folder: Path) -> tuple[int, bool, bool]:
        places = [os.path.normpath(folder / name) for name in sample]
        found = sum(place in known or os.path.isabs(name) and os.path.isfile(place)
                    for place, name in zip(places, sample, strict=True))
        return found, split_of(Path(relative(folder, root), 'x')) == split, folder == path.parent

    best = max(sorted(folders), key=fit)
    if not fit(best)[0]:
        raise UserError(f'the images of {path} are not below {root}: the first, {names[0]}, is in none of its folders')
    return best


def _without_faults(coco: dict, source: str, faults: list[Fault]) -> dict:
    """The entries that make sense, annotations with their `source`; the others are added to `faults`."""
    wrong: dict[str, set[int]] = {'categories': set(), 'images': set(), 'annotations': set()}
    for key, index, what in entry_faults(coco, evaluated=False):
        wrong[key].add(index)
        entry = coco[key][index]
        known = isinstance(entry, dict) and isinstance(entry.get('id'), int)
        faults.append(Fault(f'{source}: {_SINGULAR[key]} {entry["id"]}' if known
                            else f"{source}: entry {index} of '{key}'", what))
    kept = {key: [entry for index, entry in enumerate(coco[key]) if index not in wrong[key]] for key in wrong}
    image_ids = {image['id'] for image in kept['images']}
    category_ids = {category['id'] for category in kept['categories']}
    kept['annotations'] = [{'area': annotation['bbox'][2] * annotation['bbox'][3], 'iscrowd': 0, **annotation,
                            'source': f'{source}: annotation {annotation["id"]}'}
                           for annotation in kept['annotations']
                           if annotation['image_id'] in image_ids and annotation['category_id'] in category_ids]
    return kept
