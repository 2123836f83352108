"""Runs an exported file with ONNX Runtime or OpenVINO: takes images and sizes, returns boxes, scores, labels, masks."""
from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.errors import UserError, in_short

from .metadata import read_metadata
from .openvino_file import check_openvino_file

KEY = 'sparse_rcnn_mm'  # the key of our metadata in a file
OUTPUTS = ('boxes', 'scores', 'labels')
MASKS = ('masks', 'mask_boxes')  # more outputs, of models with masks
PACKAGES = {'.onnx': 'onnxruntime', '.xml': 'openvino', '.pt2': 'torch'}


class Engine:
    """An exported network.

    Args:
        path: the file, `.onnx`, `.xml` or `.pt2`.
        threads: the number of CPU threads. By default, the engine chooses.

    Attributes:
        metadata: written by the export: `classes`, `category_ids`, `palette`, `resize` and others.

    Raises:
        UserError: the file is missing or was not exported by this package, or its engine is not installed.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None) -> None:
        kind = Path(path).suffix
        if kind not in PACKAGES:
            raise UserError(f'{path} is not an exported model: its name must end in {" or ".join(PACKAGES)}')
        if not Path(path).is_file():
            raise UserError(f'there is no exported model {path}')
        try:
            package = import_module(PACKAGES[kind])
        except ImportError as error:
            raise UserError(f'{path} needs {PACKAGES[kind]}: run `pip install {PACKAGES[kind]}`') from error
        try:
            self._run, text = _OPENERS[kind](package, os.fspath(path), threads)
        except UserError:
            raise
        except Exception as error:  # both engines raise RuntimeErrors of many kinds
            raise UserError(f'{PACKAGES[kind]} cannot load {path}: {in_short(error)}') from error
        if not text:
            raise UserError(f'{path} was not written by this package: export the checkpoint with sparse-rcnn export')
        self.path = os.fspath(path)
        self.metadata = read_metadata(text, path)

    def __call__(self, images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        """Run a batch. Returns boxes (B, k, 4) float32, scores (B, k) float32 and labels (B, k) int64, best first.

        Models with masks also return masks (B, k, h, w) float32, which are probabilities, and the boxes (B, k, 4)
        float32 that they fill, which may reach beyond the image.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            sizes: (B, 2) int64, the height and width of each image without padding. The padding is ignored.

        Raises:
            UserError: the images do not fit into a file with static sizes, the engine fails, or the file returns
                anything else than detections.
        """
        batch, fixed = self.metadata.get('batch'), self.metadata['resize'].get('within')
        if batch is None and fixed is None:
            return self._detections(images, sizes)
        batch, (height, width) = batch or len(images), fixed or images.shape[2:]
        if images.shape[2] > height or images.shape[3] > width:
            raise UserError(f'images of {images.shape[2]} x {images.shape[3]} pixels do not fit into the {height} x '
                            f'{width} that the exported file is for: export with a larger --static')
        parts = [self._filled_up(images[start:start + batch], sizes[start:start + batch], (batch, 3, height, width))
                 for start in range(0, len(images), batch)]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _filled_up(self, images: np.ndarray, sizes: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Pad a batch to the static shape of the file, and run it."""
        canvas, content = np.zeros(shape, np.uint8), np.ones((shape[0], 2), np.int64)
        canvas[:len(images), :, :images.shape[2], :images.shape[3]], content[:len(images)] = images, sizes
        return [array[:len(images)] for array in self._detections(canvas, content)]

    def _detections(self, images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        """Run a batch, and check what comes back: the file may have been made by anybody."""
        try:
            boxes, scores, labels, *masked = (np.asarray(array) for array in self._run(images, sizes))
        except Exception as error:  # the engines raise errors of many kinds
            raise UserError(f'{self.path} cannot be run: {in_short(error)}') from error
        shape = scores.shape
        if (len(shape) != 2 or len(scores) != len(images) or labels.shape != shape or boxes.shape != (*shape, 4)
                or labels.dtype.kind not in 'iu' or not all(array.dtype.kind == 'f' for array in (boxes, scores))):
            raise UserError(f'{self.path} does not return boxes, scores and labels of detections')
        if masked and not _are_masks(masked, boxes.shape):
            raise UserError(f'{self.path} does not return masks of detections and their boxes')
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.metadata['classes']):
            raise UserError(f'{self.path} detects other classes than the {len(self.metadata["classes"])} that it names')
        if not all(np.isfinite(array).all() for array in (boxes, scores, *masked)):
            raise UserError(f'{self.path} returns boxes or scores that are not finite, or masks')
        return [boxes, scores, labels, *masked]


def _are_masks(masked: list[np.ndarray], boxes: tuple[int, ...]) -> bool:
    """Whether arrays are masks (B, k, h, w) and their boxes, which have this shape."""
    return (len(masked) == 2 and masked[0].ndim == 4 and masked[0].shape[:2] == boxes[:2] and masked[1].shape == boxes
            and all(array.dtype.kind == 'f' for array in masked))


_Run = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


def _onnxruntime(ort: Any, path: str, threads: int | None) -> tuple[_Run, str | None]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    wanted = ('CUDAExecutionProvider', 'CPUExecutionProvider')
    session = ort.InferenceSession(path, options, [name for name in wanted if name in ort.get_available_providers()])
    names = [*OUTPUTS, *(output.name for output in session.get_outputs() if output.name in MASKS)]
    return (lambda images, sizes: session.run(names, {'images': images, 'sizes': sizes}),
            session.get_modelmeta().custom_metadata_map.get(KEY))


def _openvino(ov: Any, path: str, threads: int | None) -> tuple[_Run, str | None]:
    check_openvino_file(path)
    core = ov.Core()
    model = core.read_model(path)
    # On some processors the default would be bfloat16.
    settings = {'INFERENCE_PRECISION_HINT': 'f32', **({'INFERENCE_NUM_THREADS': threads} if threads else {})}
    compiled = core.compile_model(model, 'CPU', settings)

    known = {name for output in model.outputs for name in output.get_names()}
    names = [*OUTPUTS, *(name for name in MASKS if name in known)]

    def run(images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        found = compiled([images, sizes])
        return [found[name] for name in names]

    return run, model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None


def _aot_inductor(torch: Any, path: str, threads: int | None) -> tuple[_Run, str | None]:
    with zipfile.ZipFile(path) as archive:
        text = next((archive.read(name).decode() for name in archive.namelist() if name.endswith(f'extra/{KEY}')), None)
    if threads:
        torch.set_num_threads(threads)
    model = torch._inductor.aoti_load_package(path)

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        found = [array.numpy() for array in model(*map(torch.from_numpy, arrays))]
        return found[:3] if len(found) == 4 else found  # a fourth array is the boxes of every stage

    return run, text


_OPENERS = {'.onnx': _onnxruntime, '.xml': _openvino, '.pt2': _aot_inductor}
