"""Opens mmdet 3.x checkpoints of detectors other than Sparse R-CNN, for comparisons."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import mmdet.registry
import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from sparse_rcnn_mm.checkpoints import (
    Metadata,
    StoredConfig,
    is_of_mmdet,
    load_contents,
    published_config,
    read_checkpoint,
    registered_only,
)
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.datasets.masks import extent
from sparse_rcnn_mm.errors import UserError, in_short

from .backend import Found, TorchBackend
from .detector import Described, Detector, device_of, read_config, with_classes


def open_checkpoint(checkpoint: str | os.PathLike, config: str | None = None, device: str | None = None) -> Detector:
    """Open a detector from a checkpoint of this package or of mmdet.

    Args:
        checkpoint, device: as in `Detector.from_checkpoint`.
        config: a config file to use instead of the config in the checkpoint.

    Raises:
        UserError: the file is missing, unsafe, has no config or no class names, or does not fit its config.
    """
    name = config or published_config(checkpoint)
    if name is not None:
        if not is_of_mmdet(given := config_from_file(name)):
            return Detector.from_checkpoint(checkpoint, name, device)
        contents = read_checkpoint(checkpoint)
        metadata, described = Metadata.of(contents, checkpoint), read_config(given)
    else:
        contents = read_checkpoint(checkpoint)
        metadata = Metadata.of(contents, checkpoint)
        if not is_of_mmdet((stored := metadata.config()).values):
            return Detector.from_checkpoint(checkpoint, None, device)
        described = _described(stored)
    classes = with_classes(metadata, described).classes
    if not classes:
        raise UserError(f'neither {checkpoint} nor its config names the classes: add metainfo=dict(classes=...) to '
                        'test_dataloader.dataset in a config, and pass it')
    model = _build(described.model, checkpoint, stored=name is None)
    load_contents(model, contents, checkpoint)
    backend = MMDetBackend(model.to(device_of(device)).eval(), len(classes), checkpoint)
    detector = Detector(backend, described.pipeline, classes, metadata.category_ids, metadata.palette)
    # in our registry, the name of mmdet's loader refers to our loader, which returns RGB
    detector.bgr = described.pipeline[0]['type'].split('.')[-1] != 'LoadRGBImage'
    return detector


def _described(stored: StoredConfig) -> Described:
    return Described(stored.mmdet_model(), stored.test_pipeline(), stored.dataset_type(), stored.metainfo())


def _build(model: Mapping[str, Any], path: str | os.PathLike, stored: bool) -> nn.Module:
    """Build a model with mmdet's registry, for prediction. A `stored` config may only name registered classes."""
    try:
        with DefaultScope.overwrite_default_scope('mmdet'), registered_only() if stored else nullcontext():
            return mmdet.registry.MODELS.build(_for_prediction(model))
    except Exception as error:  # the arguments come from a file, so a constructor may raise anything
        raise UserError(f'mmdet cannot build the model of {path} ({type(error).__name__}: '
                        f'{in_short(error)}): pass the config that it was trained with') from error


def _for_prediction(model: Mapping[str, Any]) -> ConfigDict:
    """Remove the pretrained weights, which the checkpoint replaces, and the settings of the training."""
    two_stages = {'train_cfg': None} if 'roi_head' in model else {}  # has no default in two-stage detectors
    kept = {key: value for key, value in model.items() if key not in ('train_cfg', 'init_cfg', 'pretrained')}
    return ConfigDict(**kept, **two_stages)


class MMDetBackend(TorchBackend):
    """A detector of mmdet in PyTorch.

    Args:
        model: the detector, on its device and in evaluation mode.
        num_classes: the number of classes with names.
        path: the checkpoint, for messages.
    """

    def __init__(self, model: nn.Module, num_classes: int, path: str | os.PathLike) -> None:
        super().__init__(cast(Any, model))
        self.num_classes, self.path = num_classes, path

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Found]:
        """Detect objects in a batch.

        Raises:
            UserError: mmcv lacks an operation, or a class has no name.
        """
        try:
            found = super().__call__(inputs)
        except NotImplementedError as error:
            raise UserError(f'the model of {self.path} needs operations that are not here ({error}): install mmcv with '
                            'compiled ops in an environment of its own, and run this command there') from error
        highest = max((int(one.labels.max()) for one in found if len(one.labels)), default=-1)
        if highest >= self.num_classes:
            raise UserError(f'the model of {self.path} finds class number {highest}, counted from 0, but only '
                            f'{self.num_classes} classes have names: correct metainfo in its config')
        return [_best_first(_boxed(one)) for one in found]


def _boxed(found: Found) -> Found:
    """Give detections whose box is all zeros the box of their mask: SOLO and others predict masks only."""
    if found.masks is None or found.boxes.any():
        return found
    boxes = np.array([extent(mask) for mask in found.masks], np.float32).reshape(-1, 4)
    return found._replace(boxes=np.nan_to_num(boxes))


def _best_first(found: Found) -> Found:
    order = np.argsort(-found.scores, kind='stable')
    return Found(found.boxes[order], found.scores[order], found.labels[order],
                 None if found.masks is None else found.masks[order])
