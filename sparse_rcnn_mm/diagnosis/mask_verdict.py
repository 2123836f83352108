"""Turns the measurements of masks into words."""
from __future__ import annotations

from collections.abc import Iterator

from sparse_rcnn_mm.own_data.raw_data import counted

from .hypotheses import AS_THEY_ARE, MASK_WORDS, SHIFTED, moved_words
from .measurements import Masks, Measurements
from .sentences import FAULT, NOTE, WARNING, Verdict

_MANY = 0.1  # share of masks in the place of another object from which it is a fault
_LISTS = 'sparse-rcnn inspect FOLDER --config CONFIG lists them'
_WHOLE = 0.9  # share of masks that fill their boxes from which it is worth a warning


def mask_verdicts(found: Measurements) -> Iterator[Verdict]:
    """Return the findings about masks. Empty for a model without masks."""
    masks, augmented = found.masks, found.augmented
    if masks is not None and masks.broken:
        yield Verdict(FAULT, f'{counted(masks.broken, "mask")} cannot be decoded, and training stops there: '
                      f'{masks.first_broken}')
    if masks is not None and masks.masks:
        boxes_are_wrong = found.labels is not None and found.labels.decided not in (None, AS_THEY_ARE)
        yield from () if boxes_are_wrong else _places(masks)
        if masks.masks < masks.boxes - masks.broken:
            yield Verdict(NOTE, f'{masks.boxes - masks.broken - masks.masks} of {counted(masks.boxes, "box")} have no '
                          'mask, and training leaves them out')
        if masks.whole >= max(_WHOLE * masks.masks, 2):
            yield Verdict(WARNING, f'{masks.whole} of {counted(masks.masks, "mask")} fill their whole box',
                          'unless the objects are rectangles, these are boxes written as masks')
    before, after = (augmented.masks_before or 0, augmented.masks_after or 0) if augmented is not None else (0, 0)
    if after < before / 2:
        yield Verdict(FAULT, f'the training pipeline drops {before - after} of {counted(before, "mask")}',
                      'check the transforms of train_dataloader.dataset.pipeline')


def _places(masks: Masks) -> Iterator[Verdict]:
    """Say where the masks are, if not in their boxes. The most specific explanation that fits is given."""
    fit = {one.name: one.fit for one in masks.hypotheses}
    if masks.decided not in (None, AS_THEY_ARE):
        what = (f'masks are shifted by {moved_words(masks.shift)} from their boxes' if masks.decided == SHIFTED else
                MASK_WORDS[masks.decided])
        yield Verdict(FAULT, f'{what}: the mean IoU of {counted(masks.masks, "mask")} with their boxes is '
                      f'{fit[AS_THEY_ARE]:.2f}, and {fit[masks.decided]:.2f} when they are put right')
    elif masks.of_another >= max(_MANY * masks.masks, 2):
        yield Verdict(FAULT, f'masks belong to other objects: {masks.of_another} of {masks.masks} lie in the box of '
                      'another object of their image', 'check how masks and boxes are joined')
    elif masks.elsewhere > masks.masks / 2:
        empty = f', and {masks.empty} of them are empty' if masks.empty else ''
        yield Verdict(FAULT, f'masks are not where their boxes are: {masks.elsewhere} of {masks.masks} have an IoU '
                      f'below 0.5 with their boxes{empty}', _LISTS)
    elif masks.elsewhere:
        yield Verdict(WARNING, f'{masks.elsewhere} of {counted(masks.masks, "mask")} are not where their boxes are',
                      _LISTS)
