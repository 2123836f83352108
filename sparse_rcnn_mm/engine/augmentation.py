"""Stronger augmentation by name, put into the training pipeline of any config."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.config_files import FOLDER, config_from_file
from sparse_rcnn_mm.errors import UserError, did_you_mean
from sparse_rcnn_mm.registry import innermost_dataset

_FOLDER = FOLDER / '_base_' / 'augmentation'
# What a file of augmentation may have: transforms of several images, with masks or without, after loading, and in the
# place of resizing.
_PLACES = ('mixed_with_masks', 'mixed', 'after_loading', 'instead_of_resizing')
_MASKS = 'LoadMasks'
_LOADING = ('LoadRGBImage', 'LoadImageFromFile', 'LoadAnnotations', _MASKS)
_RESIZING = ('ResizeShortSide', 'RandomCropRange', 'RandomApply', 'Resize', 'RandomResize', 'RandomChoiceResize',
             'RandomChoice', 'RandomCrop')


def augmentation_names() -> list[str]:
    """The names of all augmentations that come with this package."""
    return sorted(path.stem for path in _FOLDER.glob('*.py'))


def augment(cfg: Config) -> None:
    """Put the augmentations that `cfg.augmentation` names into the training pipeline, and remove the setting.

    It is a name, a file, or a list of them. So that a config written out and used again is not augmented twice, the
    names do not stay.

    Raises:
        UserError: a name is unknown, or the pipeline has no place for what it stands for.
    """
    names = cfg.pop('augmentation', None) or []
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        return
    found: dict[str, list[Any]] = {place: [] for place in _PLACES}
    for name in names:
        for place, steps in _read(name).items():
            if place == 'instead_of_resizing' and steps and found[place]:
                raise UserError(f'augmentation={",".join(names)}: only one of them can replace the resizing')
            found[place] += steps
    _insert(innermost_dataset(cfg.train_dataloader.dataset), found, names)


def _read(name: str) -> dict[str, list[Any]]:
    """The transforms of an augmentation by place."""
    path = Path(name) if str(name).endswith('.py') else _FOLDER / f'{name}.py'
    if not path.is_file():
        known = augmentation_names()
        raise UserError(f'there is no augmentation {name}{did_you_mean(str(name), known)}: '
                        f'pass a file or one of the names {", ".join(known)}')
    content = config_from_file(path)
    places = {place: list(content[place]) for place in _PLACES if place in content}
    if not places:
        raise UserError(f'the augmentation {path} has none of {", ".join(_PLACES)}')
    return places


def _insert(dataset: Any, found: dict[str, list[Any]], names: Sequence[str]) -> None:
    pipeline = list(dataset.pipeline)
    end = next((index for index, step in enumerate(pipeline) if step['type'] not in _LOADING), len(pipeline))
    loading, others = pipeline[:end], pipeline[end:]
    if not loading:
        raise UserError(f'augmentation={",".join(names)}: the training pipeline does not begin with '
                        f'{" or ".join(_LOADING)}')
    mixed = _mixed(loading, found, names)
    if replacement := found['instead_of_resizing']:
        resizing = [index for index, step in enumerate(others) if step['type'] in _RESIZING]
        if not resizing:
            raise UserError(f'augmentation={",".join(names)}: the training pipeline has no resizing to replace')
        kept = [step for step in others if step['type'] not in _RESIZING]
        others = kept[:resizing[0]] + replacement + kept[resizing[0]:]
    others = found['after_loading'] + others
    if not mixed:
        dataset.pipeline = loading + others
        return
    inner = dict(dataset, pipeline=loading)
    dataset.clear()
    dataset.update(type='MultiImageMixDataset', dataset=inner, pipeline=mixed + others)


def _mixed(loading: list[Any], found: dict[str, list[Any]], names: Sequence[str]) -> list[Any]:
    """The transforms of several images. Adds the loading of masks where they need it; other configs drop them again."""
    masks_stay = any(step['type'] == _MASKS for step in loading)
    if found['mixed'] and masks_stay:
        raise UserError(f'augmentation={",".join(names)}: {found["mixed"][0]["type"]} does not mix masks, which this '
                        'config trains on')
    with_masks = found['mixed_with_masks']
    if with_masks and not masks_stay:
        loading.append(dict(type=_MASKS))
        with_masks = [*with_masks, dict(type='DropMasks')]
    return with_masks + found['mixed']
