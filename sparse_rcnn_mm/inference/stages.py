"""Collects the boxes and scores of every proposal after every stage."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models.queryinst.pasting import paste_masks
from sparse_rcnn_mm.models.structures import StageOutput
from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.visualization.stages import StageBoxes

from .backend import TorchBackend
from .detector import Detector


@torch.inference_mode()
def follow_stages(detector: Detector, image: np.ndarray, score_thr: float = 0.3) -> StageBoxes:
    """Run the network on an image (H, W, 3) uint8 RGB, and collect boxes and scores of every proposal, and masks.

    The detector must be built with `fast=False`: the fast form has no classes before the last stage.
    """
    if not isinstance(detector.backend, TorchBackend):
        raise UserError('the stages can only be followed in PyTorch: give a checkpoint')
    model = detector.backend.model
    one = detector.prepare(image)
    batch = model.data_preprocessor({'inputs': [one['inputs']], 'data_samples': [one['data_samples']]})
    proposals, stages = model.run_stages(batch['inputs'], batch['data_samples'])
    boxes = torch.stack([proposals.boxes[0], *(stage.boxes[0] for stage in stages)]).float().cpu().numpy()
    scores = torch.stack([stage.logits[0] for stage in stages]).float().sigmoid().cpu().numpy()
    labels = scores[-1].argmax(axis=1)
    scores = np.take_along_axis(scores, labels[None, :, None], axis=2)[..., 0]
    kept = np.flatnonzero(scores[-1] >= score_thr)
    sample = one['data_samples']
    ratio = np.array([o / r for o, r in zip(sample.ori_shape[:2], sample.img_shape[:2], strict=True)], boxes.dtype)
    boxes = boxes * ratio[[1, 0, 1, 0]]
    kept = kept[np.argsort(-scores[-1, kept], kind='stable')]
    return StageBoxes(boxes, scores, labels, tuple(detector.classes[i] for i in labels), kept,
                      _sampled(stages) * ratio[::-1], _masks(stages, boxes[1:], kept, labels[kept], image.shape[:2]))


def _masks(stages: Sequence[StageOutput], boxes: np.ndarray, kept: np.ndarray, labels: np.ndarray,
           size: tuple[int, int]) -> np.ndarray | None:
    """The masks (S, n, height, width) of the kept proposals after every stage, in boxes (S, N, 4) of the image."""
    if not all(hasattr(stage, 'masks') for stage in stages):
        return None
    device = stages[0].logits.device
    rows, classes = (torch.from_numpy(values).to(device) for values in (kept, labels))
    return np.stack([paste_masks(at_least_float32(stage.masks(rows, classes)).sigmoid(),  # type: ignore[attr-defined]
                                 torch.from_numpy(after[kept]), *size).numpy()
                     for stage, after in zip(stages, boxes, strict=True)])


def _sampled(stages: Sequence[StageOutput]) -> np.ndarray:
    """Return the points (S, N, P, 2) sampled by the stages, in pixels of the resized image. P is 0 for RoI pooling."""
    none = stages[0].boxes.new_zeros(1, stages[0].boxes.shape[1], 1, 0, 2)
    points = torch.cat([getattr(stage, 'points', none) for stage in stages])
    return points[..., :2].flatten(2, 3).float().cpu().numpy()
