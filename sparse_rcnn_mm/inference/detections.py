"""The detections of an image, and the interface of detectors."""
from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sparse_rcnn_mm.datasets.read_image import ImageLike, read_image

from . import conversions


@dataclass(frozen=True)
class ImageDetections:
    """The n detections of one image, best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the original image.
        scores: (n,) float32, between 0 and 1.
        labels: (n,) int64, the index of each class.
        names: the name of each class.
        masks: (n, height, width) bool, the pixels of each detection in the original image; None if the model predicts
            no masks.
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def keep(self, score_thr: float = 0.0, classes: Sequence[str] | None = None) -> ImageDetections:
        """Return the detections with at least this score, of these classes (all if None)."""
        classes = [classes] if isinstance(classes, str) else classes
        kept = [i for i, name in enumerate(self.names)
                if self.scores[i] >= score_thr and (classes is None or name in classes)]
        return ImageDetections(self.boxes[kept], self.scores[kept], self.labels[kept],
                               tuple(self.names[i] for i in kept), None if self.masks is None else self.masks[kept])

    to_supervision = conversions.to_supervision
    to_coco = conversions.to_coco
    to_pandas = conversions.to_pandas


class ImageDetector(ABC):
    """Base class of detectors.

    Args:
        classes: names of the classes.
        category_ids: the id of each class in the COCO file that the model was trained on. Default: 1, 2, ...
        palette: an RGB color for each class, if the data set defines them.
    """

    def __init__(self, classes: Sequence[str], category_ids: Sequence[int] | None = None,
                 palette: Sequence[Sequence[int]] | None = None) -> None:
        self.classes = tuple(classes)
        self.category_ids = tuple(category_ids or range(1, len(classes) + 1))
        self.palette = palette

    def __call__(self, images: ImageLike | Sequence[ImageLike], batch_size: int = 1) -> Any:
        """Detect objects. Returns `ImageDetections` for one image, and a list of them for a list of images.

        Raises:
            UserError: an image cannot be read.
        """
        if isinstance(images, (str, os.PathLike, Image.Image, np.ndarray)):
            return self.detect([self.prepare(read_image(images))])[0]
        found: list[ImageDetections] = []
        for start in range(0, len(images), batch_size):
            found += self.detect([self.prepare(read_image(image)) for image in images[start:start + batch_size]])
        return found

    @abstractmethod
    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Preprocess an image (H, W, 3) uint8 in RGB order for the network. Thread-safe."""

    @abstractmethod
    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        """Run the network on a batch of results of `prepare`."""

    def named(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray,
              masks: np.ndarray | None = None) -> ImageDetections:
        """Make detections, with the names of their classes."""
        return ImageDetections(boxes, scores, labels, tuple(self.classes[label] for label in labels), masks)
