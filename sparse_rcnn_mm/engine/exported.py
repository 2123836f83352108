"""Lets a Runner test an exported file instead of a PyTorch model."""
from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from sparse_rcnn_mm.inference.exported import ExportedBackend
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.runtime import Engine


@MODELS.register_module()
class ExportedModel(BaseModel):
    """Detects with ONNX Runtime or OpenVINO instead of PyTorch; for testing only.

    Args:
        path: the exported file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.backend = ExportedBackend(Engine(path))

    def forward(self, inputs: list[Tensor], data_samples: list[DetDataSample], mode: str = 'predict') -> Any:
        """Return the data samples with `pred_instances`. `inputs` are resized images (3, h, w), uint8, RGB."""
        batch = [{'inputs': image, 'data_samples': sample} for image, sample in zip(inputs, data_samples, strict=True)]
        for sample, found in zip(data_samples, self.backend(batch), strict=True):
            boxes, scores, labels = map(torch.from_numpy, found)
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        return data_samples
