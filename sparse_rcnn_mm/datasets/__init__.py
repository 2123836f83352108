"""Data sets and the transforms that turn their images into the network's input; and reading of image files.

What finds and reads image files works without PyTorch. The rest is imported on first use.
"""
from typing import TYPE_CHECKING

from sparse_rcnn_mm.lazy import lazy

if TYPE_CHECKING:
    from .coco import CocoDataset
    from .digits import DigitsDataset
    from .masks import LoadMasks
    from .samplers import AspectRatioBatchSampler, InfiniteClassAwareSampler, InfiniteRepeatFactorSampler
    from .transforms import ClipBoxes, LoadRGBImage, RandomCropRange, ResizeShortSide
    from .voc import PascalVocDataset

__all__ = ['AspectRatioBatchSampler', 'ClipBoxes', 'CocoDataset', 'DigitsDataset', 'InfiniteClassAwareSampler',
           'InfiniteRepeatFactorSampler', 'LoadMasks', 'LoadRGBImage', 'PascalVocDataset', 'RandomCropRange',
           'ResizeShortSide']
__getattr__ = lazy(__name__, {
    'AspectRatioBatchSampler': 'samplers', 'ClipBoxes': 'transforms', 'CocoDataset': 'coco', 'DigitsDataset': 'digits',
    'InfiniteClassAwareSampler': 'samplers', 'InfiniteRepeatFactorSampler': 'samplers', 'LoadMasks': 'masks',
    'LoadRGBImage': 'transforms', 'PascalVocDataset': 'voc', 'RandomCropRange': 'transforms',
    'ResizeShortSide': 'transforms'})
