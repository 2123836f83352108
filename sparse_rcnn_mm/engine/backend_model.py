"""A backend of a `Detector` in the place of the model that a Runner tests."""
from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from sparse_rcnn_mm.inference.backend import Backend


class BackendModel(BaseModel):
    """Detects by a backend; for testing only."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend

    def forward(self, inputs: list[Tensor], data_samples: list[DetDataSample], mode: str = 'predict') -> Any:
        """Data samples with `pred_instances`; `inputs` are images (3, h, w) uint8 as the test pipeline gives them."""
        batch = [{'inputs': image, 'data_samples': sample} for image, sample in zip(inputs, data_samples, strict=True)]
        for sample, found in zip(data_samples, self.backend(batch), strict=True):
            boxes, scores, labels = map(torch.from_numpy, found[:3])
            masks = {} if found.masks is None else {'masks': torch.from_numpy(found.masks)}
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels, **masks)
        return data_samples
