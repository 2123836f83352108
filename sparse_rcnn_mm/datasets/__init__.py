"""Data sets and the transforms that turn their images into the network's input."""
from .coco import CocoDataset
from .digits import DigitsDataset
from .transforms import ClipBoxes, LoadRGBImage, RandomCropRange, ResizeShortSide

__all__ = ['ClipBoxes', 'CocoDataset', 'DigitsDataset', 'LoadRGBImage', 'RandomCropRange', 'ResizeShortSide']
