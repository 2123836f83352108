"""A trained detector that needs nothing but a checkpoint."""
from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.checkpoints import Metadata, building, load_contents, published_config, read_checkpoint
from sparse_rcnn_mm.config_files import find_config
from sparse_rcnn_mm.datasets import LoadRGBImage
from sparse_rcnn_mm.datasets.read_image import ImageLike, read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.registry import DATASETS, MODELS, SCOPE, TRANSFORMS

from . import conversions
from .backend import Backend, TorchBackend
from .tta import TTA, AugmentedBackend

# Steps of a test pipeline that read files. `read_image` replaces them.
_READERS = ('LoadRGBImage', 'LoadImageFromFile', 'LoadAnnotations')


@dataclass(frozen=True)
class ImageDetections:
    """The n detections of one image, best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the original image.
        scores: (n,) float32, between 0 and 1.
        labels: (n,) int64, the class index of each detection.
        names: the class name of each detection.
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def keep(self, score_thr: float = 0.0, classes: Sequence[str] | None = None) -> ImageDetections:
        """Return the detections of these classes (default: all) with at least this score."""
        kept = [i for i, name in enumerate(self.names)
                if self.scores[i] >= score_thr and (classes is None or name in classes)]
        return ImageDetections(self.boxes[kept], self.scores[kept], self.labels[kept],
                               tuple(self.names[i] for i in kept))

    to_supervision = conversions.to_supervision
    to_coco = conversions.to_coco
    to_pandas = conversions.to_pandas


class Detector:
    """Detects objects in images, with the preprocessing of the config's test pipeline.

    Args:
        backend: runs the network: a `TorchBackend`, or another function from a list of `prepare` results to a list of
            `Found`.
        pipeline: the config of the test pipeline.
        classes: the class names.
        category_ids: the id of each class in the COCO file that the model was trained on. Default: 1, 2, ...
        palette: an RGB color for each class, if the data set has a palette.
    """

    def __init__(self, backend: Backend, pipeline: Sequence[Mapping[str, Any]], classes: Sequence[str],
                 category_ids: Sequence[int] | None = None, palette: Sequence[Sequence[int]] | None = None) -> None:
        self.backend = backend
        self.classes = tuple(classes)
        self.category_ids = tuple(category_ids or range(1, len(classes) + 1))
        self.palette = palette
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
                image, as the authors do, and a `TTA` has sizes of its own.

        Raises:
            UserError: the file is missing, unsafe, for another model, or has no config.
        """
        contents = read_checkpoint(checkpoint)
        metadata = Metadata.of(contents, checkpoint)
        config = config or published_config(checkpoint)
        described = _described(metadata) if config is None else _read_config(config)
        with building(checkpoint) if config is None else nullcontext():
            model = _build(described.model, checkpoint)
            augmentation = TTA.of(tta, described.pipeline) if tta else None
            pipeline = described.pipeline if augmentation is None else augmentation.pipeline(described.pipeline)
            detector = cls(TorchBackend(model), pipeline, **_class_settings(metadata, described, model))
            try_out(model, detector.prepare(np.zeros((48, 64, 3), np.uint8)))
        load_contents(model, contents, checkpoint)
        model = model.to(_device(device)).eval()
        network = fast_form(model, precision, compile) if fast else model
        detector.backend = (TorchBackend(network) if augmentation is None else
                            AugmentedBackend(network, augmentation))
        return detector

    def __call__(self, images: ImageLike | Sequence[ImageLike], batch_size: int = 1) -> Any:
        """Return the ImageDetections of one image, or a list of them for a list of images.

        Raises:
            UserError: an image cannot be read.
        """
        if isinstance(images, (str, os.PathLike, Image.Image, np.ndarray)):
            return self.detect([self.prepare(read_image(images))])[0]
        found: list[ImageDetections] = []
        for start in range(0, len(images), batch_size):
            found += self.detect([self.prepare(read_image(image)) for image in images[start:start + batch_size]])
        return found

    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Preprocess an image (H, W, 3) uint8 in RGB order for the network. Thread-safe."""
        if self.bgr:  # the config loads images with OpenCV and swaps the channels later
            image = image[..., ::-1]
        size = image.shape[:2]
        return self.pipeline({'img': image, 'img_shape': size, 'ori_shape': size})

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        """Run the network on a batch of results of `prepare`."""
        return [ImageDetections(found.boxes, found.scores, found.labels,
                                tuple(self.classes[label] for label in found.labels))
                for found in self.backend(inputs)]


@torch.no_grad()
def try_out(model: SparseRCNN, prepared: Mapping[str, Any]) -> None:
    """Run a newly built model once on a prepared image. Raises any exception if model and pipeline do not work."""
    if not {'inputs', 'data_samples'} <= set(prepared):
        raise ValueError('the pipeline does not end with PackDetInputs')
    training = model.training
    device = next(model.parameters()).device
    model.eval()(torch.zeros(1, 3, 64, 64, device=device), mode='tensor')
    model.train(training)


class _Described(NamedTuple):
    """The parts of a config that describe a detector."""
    model: dict[str, Any]
    pipeline: Sequence[Mapping[str, Any]]
    dataset_type: str | None
    metainfo: Mapping[str, Any]


def _described(metadata: Metadata) -> _Described:
    stored = metadata.config()
    return _Described(stored.model(), stored.test_pipeline(), stored.dataset_type(), stored.metainfo())


def _read_config(config: str | os.PathLike | Config) -> _Described:
    """Read the user's own config, which is trusted.

    Raises:
        UserError: the file is missing, cannot be read, or has no test pipeline.
    """
    name = 'given'
    if not isinstance(config, Config):
        name = os.fspath(config)
        path = find_config(config)
        try:
            config = Config.fromfile(path)
        except Exception as error:  # a config is Python: anything can go wrong in it
            raise UserError(f'the config {config} cannot be read: {error}') from error
    dataset = (config.get('test_dataloader') or config.get('val_dataloader') or {}).get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset.get('pipeline'):
        raise UserError(f'the config {name} has no test_dataloader.dataset.pipeline: pass another (--config FILE)')
    return _Described(config.model, dataset['pipeline'], dataset.get('type'), dataset.get('metainfo', {}))


def _build(model: dict[str, Any], path: str | os.PathLike) -> SparseRCNN:
    """Build the network without downloading pretrained weights, since the checkpoint contains all weights."""
    try:
        with DefaultScope.overwrite_default_scope(SCOPE):
            built = MODELS.build(model)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f'the config of {path} does not describe a model of this package ({error}): '
                        'pass one that does (--config FILE)') from error
    if not isinstance(built, SparseRCNN):
        raise UserError(f'the config of {path} does not describe a detector of this package, but a '
                        f'{type(built).__name__}: pass one that does (--config FILE)')
    return built


def _class_settings(metadata: Metadata, described: _Described, model: SparseRCNN) -> dict[str, Any]:
    """Names, ids and colors of the classes, from the checkpoint, else from the config's data set, else numbers."""
    number = model.roi_head.num_classes
    if not metadata.classes:
        DATASETS.import_from_location()
        kind = ChainMap(DATASETS.module_dict, DATASETS.parent.module_dict).get(described.dataset_type)
        metadata = Metadata.of({'meta': {'dataset_meta': {**getattr(kind, 'METAINFO', {}), **described.metainfo}}},
                               metadata.path)
    if len(metadata.classes or ()) != number:
        return {'classes': [f'class {index}' for index in range(number)]}
    return {'classes': metadata.classes, 'category_ids': metadata.category_ids, 'palette': metadata.palette}


def _device(device: str | None) -> torch.device:
    try:
        chosen = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'the device {device} cannot be used: {str(error).splitlines()[0]}') from error
    return chosen
