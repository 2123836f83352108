"""The metadata of an exported file, and which detectors can be exported."""
from __future__ import annotations

import hashlib
from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs

from sparse_rcnn_mm.datasets.transforms import ResizeShortSide
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.backend import TorchBackend
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.models.queryinst import QueryInst
from sparse_rcnn_mm.runtime.metadata import FORMAT
from sparse_rcnn_mm.versions import __version__

from .forms import ExportedNetwork, MaskedNetwork, StagedNetwork


def plain_model(detector: Detector) -> SparseRCNN:
    """Return the detector's network in PyTorch.

    Raises:
        UserError: the detector runs a fast form or an exported file.
    """
    model = getattr(detector.backend, 'model', None)
    if not isinstance(detector.backend, TorchBackend) or not isinstance(model, SparseRCNN):
        raise UserError('only the plain form of a checkpoint can be exported: Detector.from_checkpoint(fast=False)')
    return model


def network_of(detector: Detector, stages: bool = False) -> ExportedNetwork:
    """Build the network from RGB pixels to detections, ready to be traced. `stages`: see `Tracing`."""
    model = plain_model(detector)
    kind = StagedNetwork if stages else MaskedNetwork if isinstance(model, QueryInst) else ExportedNetwork
    return kind(model, swap=bool(model.data_preprocessor._channel_conversion)).eval()


def describe(detector: Detector, config: str | None) -> dict[str, Any]:
    """Return the metadata of a file exported from this detector, as plain data. `config` is the text of its config.

    Raises:
        UserError: the test pipeline does more than resize the short side.
    """
    return {'format': FORMAT, 'package': f'sparse_rcnn_mm {__version__}', 'classes': list(detector.classes),
            'category_ids': list(detector.category_ids),
            'palette': [list(color) for color in detector.palette] if detector.palette else None,
            'resize': _resizing(detector), 'weights_sha256': _hash(plain_model(detector)),
            'config': config}


def _resizing(detector: Detector) -> dict[str, Any]:
    transforms: list[BaseTransform] = detector.pipeline.transforms
    if detector.bgr:
        raise UserError('the test pipeline reads images with OpenCV: only a pipeline with LoadRGBImage can be '
                        'exported')
    match transforms:
        case [ResizeShortSide(short_sides=[short_side]) as resize, PackDetInputs()]:
            return {'short_side': short_side, 'max_long_side': resize.max_long_side}
    names = ', '.join(type(transform).__name__ for transform in transforms)
    raise UserError(f'the test pipeline is {names}: only LoadRGBImage, ResizeShortSide with one size and '
                    'PackDetInputs can be exported')


def _hash(model: SparseRCNN) -> str:
    """The SHA-256 of all weights and their names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
