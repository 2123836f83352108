"""Runs the network for a `Detector`."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from sparse_rcnn_mm.acceleration.prediction import FastForm
from sparse_rcnn_mm.errors import NotFinite
from sparse_rcnn_mm.models import SparseRCNN


class Found(NamedTuple):
    """The n detections of one image, best first, in pixels of the original image."""
    boxes: np.ndarray  # (n, 4) float32, x1, y1, x2, y2
    scores: np.ndarray  # (n,) float32
    labels: np.ndarray  # (n,) int64
    masks: np.ndarray | None = None  # (n, height, width) bool, from models that predict masks


# Takes a batch of dicts with `inputs`, an image (3, H, W) uint8, and `data_samples`, whose `img_shape` and `ori_shape`
# are the height and width of the resized and of the original image.
Backend = Callable[[Sequence[dict[str, Any]]], list[Found]]


class TorchBackend:
    """The network in PyTorch.

    Args:
        model: a detector or its fast form, on its device and in evaluation mode.
    """

    def __init__(self, model: SparseRCNN | FastForm) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Found]:
        """Detect objects in a batch.

        Raises:
            NotFinite: boxes or scores are not finite.
        """
        batch = {key: [one[key] for one in inputs] for key in ('inputs', 'data_samples')}
        samples = self.model(**self.model.data_preprocessor(batch), mode='predict')
        predicted = (sample.pred_instances for sample in samples)
        found = [Found(one.bboxes.float().cpu().numpy(), one.scores.float().cpu().numpy(), one.labels.cpu().numpy(),
                       one.masks.cpu().numpy() if 'masks' in one else None) for one in predicted]
        if not all(np.isfinite(one.boxes).all() and np.isfinite(one.scores).all() for one in found):
            raise not_finite(self.model)
        return found


def not_finite(model: SparseRCNN | FastForm) -> NotFinite:
    """The error for predictions that are not finite. Another precision is advised only if there is one."""
    reduced = isinstance(model, FastForm) and model.dtype != torch.float32
    return NotFinite('the model predicts boxes or scores that are not finite: its weights are damaged'
                     + ', or need another precision (--precision fp32)' * reduced, predictions=True)
