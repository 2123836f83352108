"""One of the two detectors of a comparison, and its size."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparse_rcnn_mm.checkpoints import Metadata, read_checkpoint
from sparse_rcnn_mm.checkpoints.hub import WEIGHTS
from sparse_rcnn_mm.checkpoints.weights import local_checkpoint
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector, ExportedDetector, is_exported
from sparse_rcnn_mm.inference.backend import TorchBackend
from sparse_rcnn_mm.inference.detections import ImageDetector
from sparse_rcnn_mm.inference.mmdet_models import open_checkpoint


@dataclass(frozen=True)
class Side:
    """A detector to compare.

    Attributes:
        name: its name on the command line.
        detector: the detector.
        parameters: the number of its parameters; None if the file does not say.
        file_bytes: the size of its file; None if there is none.
        masks: whether it predicts masks.
        held_out: (digest, file name) of the images that its training held out.
        note: a remark about the size of the file.
    """
    name: str
    detector: ImageDetector
    parameters: int | None = None
    file_bytes: int | None = None
    held_out: tuple[tuple[str, str], ...] = ()
    note: str = ''
    masks: bool = False

    @classmethod
    def open(cls, name: str, config: str | None = None, device: str | None = None) -> Side:
        """Open a checkpoint or an exported file.

        Raises:
            UserError: it cannot be opened.
        """
        if is_exported(name):
            if config:
                raise UserError(f'{name} is an exported file, for which there is no config')
            exported = ExportedDetector(name)
            return cls(name, exported, file_bytes=_size(Path(name)), masks=_with_masks(exported))
        detector = open_checkpoint(name, config, device)
        contents = read_checkpoint(name)
        note = "includes the optimizer's state" if contents.get('optimizer') else ''
        return cls(name, detector, _parameters(detector), _size(local_checkpoint(name)),
                   Metadata.of(contents, name).held_out, note, _with_masks(detector))


def _with_masks(detector: ImageDetector) -> bool:
    """Whether the detections on an image have masks, if only none of no detection."""
    return detector(np.zeros((64, 64, 3), np.uint8)).masks is not None


def _parameters(detector: Detector) -> int:
    assert isinstance(detector.backend, TorchBackend)
    network = detector.backend.model
    model = getattr(network, 'module', network)  # the fast form keeps the original model
    return sum(parameter.numel() for parameter in model.parameters())


def _size(path: Path) -> int:
    """Size of a file in bytes, including OpenVINO's separate file of weights."""
    path = path / WEIGHTS if path.is_dir() else path
    weights = path.with_suffix('.bin')
    return os.path.getsize(path) + (os.path.getsize(weights) if path.suffix == '.xml' and weights.is_file() else 0)
