"""Data sets and the transforms that turn their images into the network's input."""
from .coco import CocoDataset
from .digits import DigitsDataset
from .masks import LoadMasks
from .samplers import AspectRatioBatchSampler, InfiniteClassAwareSampler, InfiniteRepeatFactorSampler
from .transforms import ClipBoxes, LoadRGBImage, RandomCropRange, ResizeShortSide

__all__ = ['AspectRatioBatchSampler', 'ClipBoxes', 'CocoDataset', 'DigitsDataset', 'InfiniteClassAwareSampler',
           'InfiniteRepeatFactorSampler', 'LoadMasks', 'LoadRGBImage', 'RandomCropRange', 'ResizeShortSide']
