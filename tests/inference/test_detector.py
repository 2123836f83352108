"""The detector out of a checkpoint: the same numbers on every way in, in the frame of the image that was given."""
from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import TTA, Detector, ImageDetections

Colored = Callable[..., np.ndarray]


def assert_equal(one: ImageDetections, other: ImageDetections, atol: float = 0.02) -> None:
    assert one.names == other.names
    np.testing.assert_allclose(one.boxes, other.boxes, atol=atol)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_paths_arrays_and_pictures_give_the_same(detector: Detector, folder: Path, colored: Colored) -> None:
    path = folder / '1.png'
    expected = detector(path)
    assert len(expected) > 5 and set(expected.names) <= set(detector.classes)
    assert expected.names == tuple(detector.classes[label] for label in expected.labels)
    assert np.all(np.diff(expected.scores) <= 0)
    for image in (str(path), Image.open(path), colored(1)):
        assert_equal(detector(image), expected)


def test_lists_keep_their_order_in_any_batch_size(detector: Detector, folder: Path) -> None:
    paths = sorted(folder.iterdir())
    one_by_one = [detector(path) for path in paths]
    for batch_size in (1, 2, 5):
        for found, expected in zip(detector(paths, batch_size=batch_size), one_by_one, strict=True):
            assert_equal(found, expected)
    assert detector([]) == []


def test_equals_mmdets_inferencer_on_files_and_rgb_arrays(detector: Detector, checkpoint: Path, folder: Path,
                                                          config: Config, colored: Colored) -> None:
    from mmdet.apis import DetInferencer
    inferencer = DetInferencer(model=str(config.filename), weights=str(checkpoint), device='cpu',
                               scope='sparse_rcnn_mm', show_progress=False)
    for image in (str(folder / '2.png'), colored(2)):
        theirs = inferencer(image)['predictions'][0]
        ours = detector(image)
        np.testing.assert_allclose(ours.boxes, theirs['bboxes'], atol=0.02)
        np.testing.assert_allclose(ours.scores, theirs['scores'], atol=1e-5)
        assert ours.labels.tolist() == theirs['labels']
    swapped = detector(np.ascontiguousarray(colored(2)[..., ::-1]))
    assert len(swapped) != len(ours) or np.abs(swapped.scores - ours.scores).max() > 1e-4  # colours matter here


def test_boxes_are_in_pixels_of_the_image_as_given(detector: Detector, colored: Colored) -> None:
    large = colored(3, 576, 384)
    resized = np.array(Image.fromarray(large).resize((192, 288), Image.Resampling.BILINEAR))
    found, expected = detector(large), detector(resized)
    np.testing.assert_allclose(found.boxes, expected.boxes * 2, atol=0.02)
    assert found.boxes.min() >= 0 and (found.boxes <= [384, 576, 384, 576]).all()


def test_a_config_that_loads_with_opencv_sees_the_same_colours(detector: Detector, checkpoint: Path, config: Config,
                                                               folder: Path) -> None:
    bgr = copy.deepcopy(config)
    bgr.model.data_preprocessor.bgr_to_rgb = True
    bgr.test_dataloader.dataset.pipeline[0] = dict(type='mmdet.LoadImageFromFile')
    path = folder / '4.png'
    assert_equal(Detector.from_checkpoint(checkpoint, bgr, 'cpu')(path), detector(path))


def test_config_may_come_from_a_file(contents: dict, config: Config, detector: Detector, tmp_path: Path,
                                     colored: Colored) -> None:
    torch.save(contents['state_dict'], tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='--config'):
        Detector.from_checkpoint(tmp_path / 'weights.pth')
    config.dump(tmp_path / 'config.py')
    plain = Detector.from_checkpoint(tmp_path / 'weights.pth', tmp_path / 'config.py', 'cpu')
    assert plain.classes == tuple('0123456789')  # of the config's data set
    np.testing.assert_allclose(plain(colored(0)).boxes, detector(colored(0)).boxes, atol=0.02)


@pytest.mark.parametrize(('part', 'setting', 'message'), [
    ('backbone', dict(extra=1), 'does not describe a model of this package'),
    ('rpn_head', dict(type='RPNHead'), "model.rpn_head.type is 'RPNHead', which a stored config may not name"),
    ('rpn_head', dict(type='os.system', command='touch MARK'), "is 'os.system', which is not registered"),
])
def test_a_config_of_another_model_is_told(contents: dict, config: Config, tmp_path: Path, part: str, setting: dict,
                                           message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = copy.deepcopy(config)
    other.model[part].update(setting)
    torch.save({**contents, 'meta': {'cfg': other.pretty_text}}, 'other.pth')
    with pytest.raises(UserError, match=message):
        Detector.from_checkpoint('other.pth', device='cpu')
    assert not Path('MARK').exists()


@pytest.mark.parametrize('image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(UserError, match=r'\(H, W, 3\) uint8 in RGB order'):
        read_image(image)


def test_unknown_devices_are_told(checkpoint: Path) -> None:
    for device in ('nonsense', 'cuda:99'):
        with pytest.raises(UserError, match=f'device {device} cannot be used'):
            Detector.from_checkpoint(checkpoint, device=device)


def test_keep_drops_by_score_and_class() -> None:
    found = ImageDetections(np.arange(12, dtype=np.float32).reshape(3, 4), np.array([0.9, 0.5, 0.1], np.float32),
                       np.array([1, 0, 1]), ('b', 'a', 'b'))
    assert found.keep(0.5).names == ('b', 'a')
    assert found.keep(0, ['b']).boxes.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert len(found.keep(0.95)) == 0 and found.keep(0.95).boxes.shape == (0, 4)


def test_weights_that_are_not_finite_are_told(contents: dict, tmp_path: Path) -> None:
    """Instead of detecting nothing."""
    state = {name: value * torch.nan if name.endswith('fc_cls.bias') else value
             for name, value in contents['state_dict'].items()}
    torch.save({**contents, 'state_dict': state}, tmp_path / 'nan.pth')
    tta = TTA(short_sides=[40], box_sides=[(0, 100)])
    for settings, advice in (({}, 'its weights are damaged$'), ({'tta': tta}, 'its weights are damaged$'),
                             ({'precision': 'bf16'}, r'its weights are damaged, or need .*\(--precision fp32\)$')):
        detector = Detector.from_checkpoint(tmp_path / 'nan.pth', device='cpu', **settings)
        with pytest.raises(UserError, match=f'boxes or scores that are not finite: {advice}'):
            detector(np.zeros((40, 50, 3), np.uint8))
