"""A trained detector that needs nothing but a checkpoint."""
from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.acceleration.prediction import fast_prediction
from sparse_rcnn_mm.checkpoints import Metadata, building, load_contents, published_config, read_checkpoint
from sparse_rcnn_mm.checkpoints.hub import is_hub_folder, pull
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.datasets import LoadRGBImage
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.registry import DATASETS, MODELS, SCOPE, TRANSFORMS, WithoutDrawing

from .backend import Backend, TorchBackend
from .detections import ImageDetections, ImageDetector
from .tta import TTA, AugmentedBackend

# Steps of a test pipeline that read files. `read_image` replaces them.
_READERS = ('LoadRGBImage', 'LoadImageFromFile', 'LoadAnnotations')


class Detector(ImageDetector):
    """Detects objects in images, with the preprocessing of the config's test pipeline.

    Args:
        backend: runs the network: a `TorchBackend`, or another function from a list of `prepare` results to a list of
            `Found`.
        pipeline: the config of the test pipeline.
        classes, category_ids, palette: explained at `ImageDetector`.
    """

    def __init__(self, backend: Backend, pipeline: Sequence[Mapping[str, Any]], classes: Sequence[str],
                 category_ids: Sequence[int] | None = None, palette: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__(classes, category_ids, palette)
        self.backend = backend
        loader = TRANSFORMS.get(pipeline[0]['type'])
        self.bgr = not (isinstance(loader, type) and issubclass(loader, LoadRGBImage))
        with DefaultScope.overwrite_default_scope(SCOPE):
            self.pipeline = Compose([dict(step) for step in pipeline
                                      if step['type'].split('.')[-1] not in _READERS])

    @classmethod
    def from_checkpoint(cls, checkpoint: str | os.PathLike, config: str | os.PathLike | Config | None = None,
                        device: str | None = None, fast: bool = True, precision: str = 'fp32',
                        compile: bool = False, tta: bool | str | TTA = False) -> Detector:
        """Build a detector from a checkpoint.

        Args:
            checkpoint: a `.pth` file, or the name or address of published weights.
            config: a config file, or the name of a published config, to use instead of the config in the checkpoint.
            device: the device. Default: the GPU if there is one.
            fast: use the fast form of the model. It gives the same detections, but no class scores of the earlier
                stages.
            precision, compile: arguments of `fast_form`.
            tta: test-time augmentation: detect in 13 sizes of the image and their mirror images, and merge the
                detections by soft voting. True resizes the image to each size, 'official' resizes an already resized
                image, as the authors do, and a `TTA` sets other sizes.

        Raises:
            UserError: the file is missing, unsafe, for another model, or has no config.
        """
        contents = read_checkpoint(checkpoint)
        metadata = Metadata.of(contents, checkpoint)
        config = config or published_config(checkpoint)
        described = _described(metadata) if config is None else read_config(config)
        with building(checkpoint) if config is None else nullcontext():
            model = _build(described.model, checkpoint)
            augmentation = TTA.of(tta, described.pipeline) if tta else None
            pipeline = described.pipeline if augmentation is None else augmentation.pipeline(described.pipeline)
            detector = cls(TorchBackend(model), pipeline, **_class_settings(metadata, described, model))
            try_out(model, detector.prepare(np.zeros((48, 64, 3), np.uint8)))
        load_contents(model, contents, checkpoint)
        model = model.to(device_of(device)).eval()
        network = fast_prediction(model, precision, compile) if fast else model
        detector.backend = (TorchBackend(network) if augmentation is None else
                            AugmentedBackend(network, augmentation))
        return detector

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, revision: str | None = None, device: str | None = None,
                        fast: bool = True, precision: str = 'fp32', compile: bool = False,
                        tta: bool | str | TTA = False) -> Detector:
        """Build a detector from a folder of `sparse-rcnn convert --hub`, or from a model on the Hugging Face Hub.

        Args:
            name: the folder, or `USER/NAME` on the hub. A folder has precedence.
            revision: branch, tag or commit on the hub.
            device, fast, precision, compile, tta: arguments of `from_checkpoint`.

        Raises:
            UserError: there is no such folder or model, or it is unsafe or damaged.
        """
        folder = Path(name).expanduser()
        if not is_hub_folder(folder):
            folder = pull(os.fspath(name) + (f'@{revision}' if revision else ''))
        return cls.from_checkpoint(folder, device=device, fast=fast, precision=precision, compile=compile, tta=tta)

    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Preprocess an image (H, W, 3) uint8 in RGB order for the network. Thread-safe."""
        if self.bgr:  # the config loads images with OpenCV and swaps the channels later
            image = image[..., ::-1]
        size = image.shape[:2]
        return self.pipeline({'img': image, 'img_shape': size, 'ori_shape': size})

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        """Run the network on a batch of results of `prepare`."""
        return [self.named(*found) for found in self.backend(inputs)]


@torch.no_grad()
def try_out(model: SparseRCNN, prepared: Mapping[str, Any]) -> None:
    """Run a newly built model once on a prepared image. Raises any exception if model and pipeline do not work."""
    if not {'inputs', 'data_samples'} <= set(prepared):
        raise ValueError('the pipeline does not end with PackDetInputs')
    training = model.training
    device = next(model.parameters()).device
    model.eval()(torch.zeros(1, 3, 64, 64, device=device), mode='tensor')
    model.train(training)


class Described(NamedTuple):
    """The parts of a config that describe a detector."""
    model: dict[str, Any]
    pipeline: Sequence[Mapping[str, Any]]
    dataset_type: str | None
    metainfo: Mapping[str, Any]


def _described(metadata: Metadata) -> Described:
    stored = metadata.config()
    return Described(stored.model(), stored.test_pipeline(), stored.dataset_type(), stored.metainfo())


def read_config(config: str | os.PathLike | Config) -> Described:
    """Read the user's own config, which is trusted.

    Raises:
        UserError: the file is missing, cannot be read, or has no test pipeline.
    """
    name = 'given'
    if not isinstance(config, Config):
        name, config = os.fspath(config), config_from_file(config)
    dataset = (config.get('test_dataloader') or config.get('val_dataloader') or {}).get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset.get('pipeline'):
        raise UserError(f'the config {name} has no test_dataloader.dataset.pipeline: pass another (--config FILE)')
    return Described(config.model, dataset['pipeline'], dataset.get('type'), dataset.get('metainfo', {}))


def _build(model: dict[str, Any], path: str | os.PathLike) -> SparseRCNN:
    """Build the network without pretrained or random weights, since the checkpoint contains all weights."""
    try:
        with DefaultScope.overwrite_default_scope(SCOPE), WithoutDrawing():
            built = MODELS.build(model)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f'the config of {path} does not describe a model of this package ({error}): '
                        'pass one that does (--config FILE)') from error
    if not isinstance(built, SparseRCNN):
        raise UserError(f'the config of {path} does not describe a detector of this package, but a '
                        f'{type(built).__name__}: pass one that does (--config FILE)')
    return built


def _class_settings(metadata: Metadata, described: Described, model: SparseRCNN) -> dict[str, Any]:
    """Find names, ids and colors of the classes: in the checkpoint, else the config's data set, else use numbers."""
    number = model.roi_head.num_classes
    metadata = with_classes(metadata, described)
    if len(metadata.classes or ()) != number:
        return {'classes': [f'class {index}' for index in range(number)]}
    return {'classes': metadata.classes, 'category_ids': metadata.category_ids, 'palette': metadata.palette}


def with_classes(metadata: Metadata, described: Described) -> Metadata:
    """Return the metadata, with the classes of the config's data set if it has no classes itself."""
    if not metadata.classes:
        DATASETS.import_from_location()
        kind = ChainMap(DATASETS.module_dict, DATASETS.parent.module_dict).get(described.dataset_type)
        metadata = Metadata.of({'meta': {'dataset_meta': {**getattr(kind, 'METAINFO', {}), **described.metainfo}}},
                               metadata.path)
    return metadata


def device_of(device: str | None) -> torch.device:
    """Return the device with this name. Default: the GPU if there is one.

    Raises:
        UserError: it cannot be used.
    """
    try:
        chosen = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'the device {device} cannot be used: {str(error).splitlines()[0]}') from error
    return chosen
