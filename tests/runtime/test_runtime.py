"""Detections from an exported file: equal to the detector's, and without PyTorch."""
from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.proof import Limits, compare
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.runtime import RuntimeDetector
from sparse_rcnn_mm.runtime.engines import KEY, Engine
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


def test_images_that_are_read_in_no_other_way_are_refused(exported: Path, tmp_path: Path) -> None:
    """Pillow would make most of a 16-bit image white."""
    detector = RuntimeDetector(exported)
    Image.fromarray(np.full((30, 40), 4000, np.uint16)).save(tmp_path / 'scan.png')
    for image, sentence in ((tmp_path / 'scan.png', 'scan.png: an image of mode I.* has more than 8 bits'),
                            (np.zeros((30, 40), np.uint8), r'must be \(H, W, 3\) uint8, not \(30, 40\) uint8'),
                            (np.zeros((30, 40, 3)), 'uint8, not .* float64')):
        with pytest.raises(UserError, match=sentence):
            detector(image)


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


@pytest.fixture(scope='module')
def bare(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in an environment that holds numpy, Pillow, ONNX Runtime and what these need, and nothing else."""
    site = tmp_path_factory.mktemp('bare') / 'site'
    site.mkdir()
    (packages,) = {Path(np.__file__).parents[1]}
    for path in (ROOT / 'sparse_rcnn_mm', ROOT / 'sparse_rcnn_command.py', *(packages / name for name in (
            'numpy', 'numpy.libs', 'PIL', 'pillow.libs', 'onnxruntime', 'onnxruntime.libs', 'flatbuffers', 'google'))):
        if path.exists():
            (site / path.name).symlink_to(path)

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, '-S', *arguments], capture_output=True, text=True, timeout=120, cwd=cwd,
                              env={'PYTHONPATH': str(site), 'PATH': ''})

    return run


def test_works_in_an_environment_without_torch(exported: Path, tmp_path: Path, bare: Callable,
                                               colored: Callable[..., np.ndarray]) -> None:
    Image.fromarray(colored(1)).save(tmp_path / 'x.png')
    done = bare('-c', DETECT, exported, 'x.png', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), RuntimeDetector(exported)(colored(1))[0].boxes, atol=1e-4)
    assert "No module named 'torch'" in bare('-c', 'import torch', cwd=tmp_path).stderr


def test_the_command_writes_the_same_files_without_torch(exported: Path, tmp_path: Path, folder: Path, bare: Callable,
                                                         tool: Callable[..., int]) -> None:
    (folder / 'broken.jpg').write_bytes(b'x')
    options = [str(folder), '--model', str(exported), '--score-thr', '0.1', '--formats', 'coco', 'csv', 'yolo']
    done = bare('-m', 'sparse_rcnn_command', 'infer', *options, '--out-dir', 'bare', cwd=tmp_path)
    assert done.returncode == 1 and '5 images, ' in done.stdout, done.stderr
    assert done.stderr.startswith('skipped: image ') and 'broken.jpg is corrupt' in done.stderr
    assert tool('infer', *options, '--out-dir', 'full') == 1
    names = sorted(str(path.relative_to(tmp_path / 'full')) for path in (tmp_path / 'full').rglob('*'))
    assert names == sorted(str(path.relative_to(tmp_path / 'bare')) for path in (tmp_path / 'bare').rglob('*'))
    assert {'0.png', 'detections.json', 'detections.csv'} <= set(names)
    for name in ('detections.json', 'detections.csv', 'detections.jsonl'):
        assert (tmp_path / 'full' / name).read_bytes() == (tmp_path / 'bare' / name).read_bytes()


@pytest.mark.parametrize(('arguments', 'said'), [
    (['infer', 'x.png', '--model', 'x.pth'], 'needs torch>=2.4 (found none), mmengine>='),
    (['train', 'sparse_rcnn_r50_3x'], 'needs torch>=2.4 (found none), mmengine>='),
    (['infer', 'x.mp4', '--model', 'x.onnx'], 'videos and cameras need OpenCV: run `pip install opencv-python-'),
])
def test_what_is_missing_there_is_one_sentence(arguments: list[str], said: str, tmp_path: Path, bare: Callable,
                                               colored: Callable[..., np.ndarray]) -> None:
    Image.fromarray(colored(1)).save(tmp_path / 'x.png')
    (tmp_path / 'x.mp4').touch()
    done = bare('-m', 'sparse_rcnn_command', *arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith('error: ') and said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_compiled_program_with_stages_gives_its_detections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its outputs have no names: the fourth of four is the boxes of every stage."""
    boxes, scores, labels = torch.tensor([[[0., 0., 9., 9.]]]), torch.tensor([[0.9]]), torch.tensor([[1]])
    monkeypatch.setattr(torch._inductor, 'aoti_load_package',
                        lambda path: lambda images, sizes: (boxes, scores, labels, boxes[:, None].repeat(1, 3, 1, 1)))
    about = {'format': 1, 'classes': ['a', 'b'], 'category_ids': [3, 1], 'resize': {'short_side': 32}}
    with zipfile.ZipFile(tmp_path / 'x.pt2', 'w') as archive:
        archive.writestr(f'x/extra/{KEY}', json.dumps(about))
    found = Engine(tmp_path / 'x.pt2')(np.zeros((1, 3, 32, 32), np.uint8), np.array([[32, 32]]))
    assert [array.tolist() for array in found] == [boxes.tolist(), scores.tolist(), labels.tolist()]
