"""Detections from an exported file: equal to the detector's, and without PyTorch."""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.proof import Limits, compare
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.runtime import RuntimeDetector
from tests.kit import CLASSES, ROOT


def test_equals_the_detector_on_files_arrays_and_pictures(exported: Path, small_checkpoint: Path, tmp_path: Path,
                                                          colored: Callable[..., np.ndarray]) -> None:
    images = [colored(1), colored(2, 576, 384), colored(3, 90, 333)]
    path = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(colored(4)).save(path, exif=exif)
    things = [images[0], Image.fromarray(images[1]), images[2], str(path), path]
    detector = RuntimeDetector(exported)
    assert detector.classes == CLASSES
    plain = Detector.from_checkpoint(small_checkpoint, device='cpu', fast=False)
    limits = Limits(boxes=3e-3)  # originals are up to three times as large as what the network sees
    for found, wanted in ((detector(*things), plain(things, batch_size=5)),  # padded to a common size
                          ([detector(thing)[0] for thing in things], plain(things))):
        for one, expected in zip(found, wanted, strict=True):
            differences = compare(one, expected, limits)
            assert len(expected) > 10 and differences.within(limits), differences


def test_what_is_no_export_is_one_sentence(exported: Path, tmp_path: Path) -> None:
    import onnx
    for name in ('x.pth', 'missing.onnx'):
        with pytest.raises(UserError, match=name):
            RuntimeDetector(tmp_path / name)
    (tmp_path / 'broken.onnx').write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(UserError, match='onnxruntime cannot load .*broken.onnx: '):
        RuntimeDetector(tmp_path / 'broken.onnx')
    model = onnx.load(exported)
    said = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**said, 'format': 2})
    onnx.save(model, tmp_path / 'newer.onnx')
    with pytest.raises(UserError, match='newer.onnx has format 2, and this version reads 1'):
        RuntimeDetector(tmp_path / 'newer.onnx')
    del model.metadata_props[:]
    onnx.save(model, tmp_path / 'other.onnx')
    with pytest.raises(UserError, match='other.onnx was not written by this package'):
        RuntimeDetector(tmp_path / 'other.onnx')
    with pytest.raises(UserError, match='image .*nowhere.jpg is missing'):
        RuntimeDetector(exported)(tmp_path / 'nowhere.jpg')


DETECT = """
import sys
from sparse_rcnn_mm.runtime import RuntimeDetector
found = RuntimeDetector(sys.argv[1])(sys.argv[2])[0]
assert not {name.split('.')[0] for name in sys.modules} & {'torch', 'mmengine', 'mmcv', 'mmdet', 'scipy', 'cv2'}
print(found.boxes.tolist())
"""


def test_works_in_an_environment_without_torch(exported: Path, tmp_path: Path,
                                               colored: Callable[..., np.ndarray]) -> None:
    """One that holds four packages and what they need, and nothing else."""
    site = tmp_path / 'site'
    site.mkdir()
    (site / 'sparse_rcnn_mm').symlink_to(ROOT / 'sparse_rcnn_mm')
    (packages,) = {Path(np.__file__).parents[1]}
    for name in ('numpy', 'numpy.libs', 'PIL', 'pillow.libs', 'onnxruntime', 'onnxruntime.libs', 'packaging',
                 'flatbuffers', 'google'):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    Image.fromarray(colored(1)).save(tmp_path / 'x.png')
    done = subprocess.run([sys.executable, '-S', '-c', DETECT, exported, tmp_path / 'x.png'], capture_output=True,
                          text=True, timeout=120, cwd=tmp_path, env={'PYTHONPATH': str(site), 'PATH': ''})
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), RuntimeDetector(exported)(colored(1))[0].boxes, atol=1e-4)
    without = subprocess.run([sys.executable, '-S', '-c', 'import torch'], env={'PYTHONPATH': str(site), 'PATH': ''},
                             capture_output=True, text=True, timeout=60)
    assert "No module named 'torch'" in without.stderr
