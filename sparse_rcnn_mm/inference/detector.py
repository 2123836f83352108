"""A trained detector, from a checkpoint alone, in two lines of Python."""
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

# Steps of a test pipeline that read files: their place is taken by `read_image`.
_READERS = ('LoadRGBImage', 'LoadImageFromFile', 'LoadAnnotations')


@dataclass(frozen=True)
class ImageDetections:
    """The n detections of one image, best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the image as it was given.
        scores: (n,) float32, between 0 and 1.
        labels: (n,) int64, index of the class.
        names: name of the class of each.
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def keep(self, score_thr: float = 0.0, classes: Sequence[str] | None = None) -> ImageDetections:
        """Those with at least this score, of these classes (all if None)."""
        kept = [i for i, name in enumerate(self.names)
                if self.scores[i] >= score_thr and (classes is None or name in classes)]
        return ImageDetections(self.boxes[kept], self.scores[kept], self.labels[kept],
                               tuple(self.names[i] for i in kept))

    to_supervision = conversions.to_supervision
    to_coco = conversions.to_coco
    to_pandas = conversions.to_pandas


class Detector:
    """Images to detections, with the preprocessing of the config's test pipeline.

    Args:
        backend: the network: a `TorchBackend`, or another function from a batch of what `prepare` gives to `Found`.
        pipeline: config of the test pipeline.
        classes: names of the classes.
        category_ids: the id of each class in the COCO file that the model was trained on; default 1, 2, ...
        palette: an RGB color for each class, if the data set has some.
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
        """Build the model that a checkpoint holds.

        Args:
            checkpoint: a `.pth` file, or the name or address of published weights.
            config: file, or name of a published one; instead of the config inside the checkpoint.
            device: default the GPU if there is one.
            fast: take `fast_form` of the model, which has the same detections, but not the classes of every stage.
            precision, compile: of `fast_form`.
            tta: test-time augmentation: each image is looked at in 13 sizes and mirrored, and the detections are merged
                by soft voting. True resizes the image to each size, 'official' resizes an already resized image, as
                the authors do, and a `TTA` has sizes of its own.

        Raises:
            UserError: the file is missing, unsafe or of another model, or has no config inside.
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
        """ImageDetections of one image, or the list of them for a list of images.

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
        """The network's input for an image (H, W, 3) uint8 in RGB order; may run in any thread."""
        if self.bgr:  # a config that loads with OpenCV, and swaps the channels later
            image = image[..., ::-1]
        size = image.shape[:2]
        return self.pipeline({'img': image, 'img_shape': size, 'ori_shape': size})

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        """Run the network on a batch of what `prepare` gave."""
        return [ImageDetections(found.boxes, found.scores, found.labels,
                                tuple(self.classes[label] for label in found.labels))
                for found in self.backend(inputs)]


@torch.no_grad()
def try_out(model: SparseRCNN, prepared: Mapping[str, Any]) -> None:
    """Let a model that was just built, and what its pipeline gave, show what is wrong with them, by any exception."""
    if not {'inputs', 'data_samples'} <= set(prepared):
        raise ValueError('the pipeline does not end with PackDetInputs')
    training = model.training
    device = next(model.parameters()).device
    model.eval()(torch.zeros(1, 3, 64, 64, device=device), mode='tensor')
    model.train(training)


class _Described(NamedTuple):
    """What a config says about a detector."""
    model: dict[str, Any]
    pipeline: Sequence[Mapping[str, Any]]
    dataset_type: str | None
    metainfo: Mapping[str, Any]


def _described(metadata: Metadata) -> _Described:
    stored = metadata.config()
    return _Described(stored.model(), stored.test_pipeline(), stored.dataset_type(), stored.metainfo())


def _read_config(config: str | os.PathLike | Config) -> _Described:
    """What a config of the user's own says, which is trusted.

    Raises:
        UserError: there is no such file, it cannot be read, or it has no pipeline for testing.
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
    """The network, without fetching pretrained weights: the checkpoint holds all of them."""
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
    """Names, ids and colors of the classes: from the checkpoint, else from the config's data set, else numbers."""
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
