"""Test-time augmentation: the authors' numbers, hand-worked votes, and properties on every way in."""
from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import sparse_rcnn_mm
from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.datasets.transforms import ResizeShortSide
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import TTA, Detector
from sparse_rcnn_mm.inference.box_voting import Candidates, soft_vote
from sparse_rcnn_mm.inference.tta import AugmentedBackend, kept_boxes
from sparse_rcnn_mm.models.structures import Detections
from sparse_rcnn_mm.registry import MODELS
from tests.kit import CONFIGS, ROOT

DATA = ROOT / 'tests' / 'data'
TWO_SIZES = TTA(short_sides=(96, 192), box_sides=((20, 1e4), (0, 150)))


def candidates(*rows: tuple[list[float], float, int]) -> Candidates:
    boxes, scores, labels = zip(*rows, strict=True)
    return Candidates(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


class Recorded(AugmentedBackend):
    """The authors' passes in place of the network; the images must be theirs to the byte."""

    def __init__(self, dump: Any, tag: str, tta: TTA, image: tuple[int, int]) -> None:
        super().__init__(None, tta)  # type: ignore[arg-type]
        self.sizes = tta.sizes(image)
        self.sha256 = dump[f'{tag}_sha256'].tolist()
        self.found = Detections(*(torch.from_numpy(dump[f'{tag}_raw_{key}']) for key in ('scores', 'labels', 'boxes')),
                                proposals=torch.zeros(0))
        self.looked = 0

    def look(self, view: torch.Tensor) -> Detections:
        first = 2 * self.sizes.index((view.shape[1], view.shape[2]))
        for one, place in ((view, first), (view.flip(2), first + 1)):
            assert hashlib.sha256(one.contiguous().numpy().tobytes()).hexdigest() == self.sha256[place]
        self.looked += 2
        return Detections(*(part[first:first + 2] for part in self.found[:3]), proposals=torch.zeros(0))


@pytest.fixture(scope='module')
def dump() -> dict[str, np.ndarray]:
    with np.load(DATA / 'tta.npz') as arrays:
        return dict(arrays)


@pytest.mark.parametrize(('tag', 'choice'), [('small', 'official'), ('orig', True)])
def test_the_authors_passes_become_their_detections(dump: dict[str, np.ndarray], tag: str, choice: bool | str) -> None:
    """Images, scale filter, way back to the original pixels, vote, cut and clipping: equal to the last bit."""
    pipeline = Config.fromfile(CONFIGS / 'sparse_rcnn_r50_3x.py').test_dataloader.dataset.pipeline
    tta = TTA.of(choice, pipeline)
    assert list(tta.short_sides) == dump['sizes'].tolist()
    image = read_image(DATA / 'bccd_first.jpg')
    if choice == 'official':
        image = ResizeShortSide(800, 1333).transform({'img': image})['img']
    backend = Recorded(dump, tag, tta, image.shape[:2])
    inputs = {'inputs': torch.from_numpy(image).permute(2, 0, 1), 'data_samples': SimpleNamespace(ori_shape=(480, 640))}
    found, = backend([inputs])
    assert backend.looked == 26
    np.testing.assert_array_equal(found.boxes, dump[f'{tag}_boxes'])
    np.testing.assert_array_equal(found.scores, dump[f'{tag}_scores'])
    np.testing.assert_array_equal(found.labels, dump[f'{tag}_labels'])


def test_the_union_and_the_vote_before_the_cut_are_the_authors(dump: dict[str, np.ndarray]) -> None:
    kept = []
    for view, limits in enumerate(TTA().box_sides):
        found = Detections(*(torch.from_numpy(dump[f'small_raw_{key}'][2 * view:2 * view + 2])
                             for key in ('scores', 'labels', 'boxes')), proposals=torch.zeros(0))
        size = tuple(dump['small_shapes'][2 * view, 1:].tolist())
        kept += [kept_boxes(found, place, size, [(800, 1067), (480, 640)], limits) for place in (0, 1)]
    assert [len(one.scores) for one in kept] == dump['small_n_kept'].tolist()
    voted = soft_vote(Candidates(*(torch.cat(parts) for parts in zip(*kept, strict=True))))
    for part, key in zip(voted, ('boxes', 'scores', 'labels'), strict=True):
        np.testing.assert_array_equal(part.numpy(), dump[f'small_soft_all_{key}'])


def test_a_vote_worked_out_by_hand() -> None:
    """IoUs of the second box with the first are 0.8; all numbers are exact in float32, but for the mean."""
    voted = soft_vote(candidates(([0, 0, 8, 10], 0.5, 0), ([0, 0, 10, 10], 0.75, 0), ([0, 0, 10, 10], 0.25, 1)))
    assert voted.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(voted.scores, [0.75, 0.25, 0.1], rtol=1e-6)  # best of the group; alone; 0.5 * (1 - 0.8)
    x2 = (0.75 * 10 + 0.5 * 8) / 1.25  # by the scores as they were, not the reduced ones
    np.testing.assert_allclose(voted.boxes, [[0, 0, x2, 10], [0, 0, 10, 10], [0, 0, 8, 10]], rtol=1e-6)


def test_weak_copies_go_and_lone_boxes_stay() -> None:
    voted = soft_vote(candidates(([0, 0, 10, 10], 0.01, 0), ([0, 0, 20, 10], 0.04, 0), ([50, 0, 60, 10], 0.9, 0),
                                 ([50, 0, 60, 10], 0.9, 0)))
    np.testing.assert_allclose(voted.scores, [0.9, 0.04, 0.01], rtol=1e-6)  # the copy of the pair had 0.9 * (1 - 1)


def test_boxes_without_area_go_and_inverted_ones_stay() -> None:
    flat, inverted = ([5, 5, 5, 9], 0.9, 0), ([9, 9, 5, 5], 0.8, 0)
    voted = soft_vote(candidates(flat, inverted, ([0, 0, 10, 10], 0.7, 0)))
    assert voted.boxes.tolist() == [[9, 9, 5, 5], [0, 0, 10, 10]]
    assert len(soft_vote(candidates(flat)).scores) == 0
    assert len(soft_vote(Candidates(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))).scores) == 0


def slow_vote(found: Candidates) -> np.ndarray:
    """In float64, without offsets, one class and one box after the other."""
    result = []
    for label in sorted(set(found.labels.tolist())):
        mine = found.labels == label
        left = sorted(zip(found.scores[mine].tolist(), found.boxes[mine].tolist(), strict=True), reverse=True)
        while left:
            best = left[0][1]
            group = [(score, box, overlap(best, box)) for score, box in left if overlap(best, box) >= 0.65]
            left = [(score, box) for score, box in left if overlap(best, box) < 0.65]
            if len(group) == 1:
                result.append([*best, group[0][0], label])
                continue
            weights = np.array([score for score, _, _ in group])
            mean = weights @ np.array([box for _, box, _ in group]) / weights.sum()
            result.append([*mean, weights[0], label])
            result += [[*box, score * (1 - iou), label] for score, box, iou in group if score * (1 - iou) >= 0.05]
    return np.array(sorted(result, key=lambda row: -row[4]))


def overlap(one: list[float], other: list[float]) -> float:
    width, height = (max(min(one[i + 2], other[i + 2]) - max(one[i], other[i]), 0) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize('seed', range(3))
def test_the_vote_equals_a_slow_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('sparse_rcnn_mm.inference.box_voting.PAIRS', 1000)  # several blocks
    draw = np.random.default_rng(seed)
    places = draw.uniform(0, 300, (12, 4)) + np.array([0, 0, 400, 400])
    boxes = places[draw.integers(0, 12, 150)] + draw.normal(0, 15, (150, 4))
    found = Candidates(torch.from_numpy(boxes).float(), torch.from_numpy(draw.permutation(150) / 150).float(),
                       torch.from_numpy(draw.integers(0, 3, 150)))
    voted, expected = soft_vote(found), slow_vote(found)
    assert len(voted.scores) == len(expected) > 80
    np.testing.assert_allclose(voted.scores, expected[:, 4], atol=1e-4)
    for row in expected:
        apart = np.abs(voted.boxes.numpy() - row[:4]).max(axis=1) + 100 * np.abs(voted.scores.numpy() - row[4])
        assert apart.min() < 0.02 and voted.labels[int(apart.argmin())] == row[5]


def test_limits_are_strict_and_unclipped_boxes_go_back_to_the_original() -> None:
    boxes = torch.tensor([[[-10, 0, 0, 10], [0, 0, 20, 20], [-5, 0, 10, 10]]] * 2).float()
    found = Detections(torch.tensor([[0.9, 0.8, 0.7]] * 2), torch.tensor([[0, 1, 2]] * 2), boxes, torch.zeros(0))
    plain = kept_boxes(found, 0, (100, 200), [(50, 100), (25, 400)], (10, 20))
    assert plain.labels.tolist() == [2]  # 100 and 400 pixels are the limits themselves
    assert plain.boxes.tolist() == [[-10, 0, 20, 2.5]]
    mirrored = kept_boxes(found, 1, (100, 200), [(50, 100), (25, 400)], (10, 20))
    assert mirrored.boxes.tolist() == [[380, 0, 410, 2.5]]  # 200 - 10 and 200 + 5, twice


@torch.inference_mode()
def test_on_the_cpu_an_image_and_its_mirror_image_are_not_in_memory_together(small_checkpoint: Path) -> None:
    backend = Detector.from_checkpoint(small_checkpoint, device='cpu', tta=TWO_SIZES).backend
    assert isinstance(backend, AugmentedBackend)
    batches = []
    backend.model.module.backbone.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    view = torch.arange(3 * 96 * 128).sin().mul(127).add(128).byte().view(3, 96, 128)
    found, mirrored = backend.look(view), backend.look(view.flip(2))
    assert batches == [1, 1, 1, 1]
    for place in (0, 1):
        assert torch.equal(found.boxes[place], mirrored.boxes[1 - place])
    assert not torch.equal(found.boxes[0], found.boxes[1])


def test_a_mirrored_image_gives_mirrored_detections(small_checkpoint: Path, colored: Callable[..., np.ndarray]) -> None:
    detector = Detector.from_checkpoint(small_checkpoint, device='cpu', tta=TWO_SIZES)
    image = colored(3)
    found, mirrored = detector(image), detector(image[:, ::-1])
    assert len(found) == len(mirrored) > 5
    np.testing.assert_allclose(found.scores, mirrored.scores, atol=1e-5)
    back = mirrored.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [260, 0, 260, 0]
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        apart = np.abs(back - box).max(axis=1) + 1e4 * np.abs(mirrored.scores - score)
        assert apart.min() < 0.2 and mirrored.labels[apart.argmin()] == label


@pytest.mark.slow
def test_test_and_detector_agree_on_both_ways(small_checkpoint: Path, digits: Path, tmp_path: Path,
                                              colored: Callable[..., np.ndarray],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {'test_dataloader.dataset.indices': 1, 'test_dataloader.dataset.data_root': f'{digits}/',
               'test_evaluator.0.ann_file': f'{digits}/val.json', 'test_dataloader.num_workers': 0}
    found = {}
    for choice in (True, 'official'):
        sparse_rcnn_mm.evaluate(small_checkpoint, tta=choice, cfg_options=options, work_dir='w', out=f'{choice}.pkl')
        detector = Detector.from_checkpoint(small_checkpoint, device='cpu', tta=choice)
        for one in pickle.loads(Path(f'{choice}.pkl').read_bytes()):
            expected = detector(one['img_path'])
            np.testing.assert_array_equal(one['pred_instances']['scores'].numpy(), expected.scores)
            np.testing.assert_array_equal(one['pred_instances']['bboxes'].numpy(), expected.boxes)
        found[choice] = detector(colored(1)).scores  # of another size than the test's
    assert not np.array_equal(found[True], found['official'])


def test_infer_with_tta(tool: Callable[..., int], small_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    options = ['--model', small_checkpoint, '--tta', '--score-thr', '0', '--device', 'cpu']
    assert tool('infer', folder / '0.png', *options) == 0
    lines = (tmp_path / 'detections/detections.csv').read_text().splitlines()
    assert len(lines) - 1 == len(Detector.from_checkpoint(small_checkpoint, device='cpu', tta=True)(folder / '0.png'))


@pytest.mark.parametrize('name', ['adamixer_r18_digits', 'sqr_r18_digits', 'ddq_rcnn_r18_digits'])
def test_every_detector_of_the_family(name: str, tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    """With one size, the best detection is the best one of the image and of its mirror image."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict({'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64],
                         'model.roi_head.num_stages': 2})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'cfg': cfg.pretty_text}},
                   tmp_path / 'x.pth')
    image = colored(2, 192, 192)
    plain = Detector.from_checkpoint(tmp_path / 'x.pth', device='cpu')
    one_size = TTA(short_sides=(192,), box_sides=((0, 1e5),))
    found = Detector.from_checkpoint(tmp_path / 'x.pth', device='cpu', tta=one_size)(image)
    passes = [plain(one) for one in (image, image[:, ::-1])]
    assert 0 < len(found) <= max(map(len, passes)) + 20 and np.isfinite(found.boxes).all()
    assert found.scores[0] == pytest.approx(max(one.scores[0] for one in passes), abs=1e-5)


def test_sizes_follow_the_models_own() -> None:
    resize = dict(type='ResizeShortSide', short_sides=200, max_long_side=333)
    tta = TTA.of(True, [dict(type='LoadRGBImage'), resize, dict(type='PackDetInputs')])
    assert tta.short_sides == (100, 125, 150, 160, 175, 225, 250, 275, 300, 325, 350, 450, 200)
    assert tta.max_long_side == 1000 and tta.box_sides[0] == (24, 2500) and not tta.resize_first
    assert tta.sizes((100, 600)) [-2:] == [(167, 1000), (167, 1000)]
    mmdet = [dict(type='mmdet.Resize', scale=(1333, 400), keep_ratio=True), dict(type='PackDetInputs')]
    assert TTA.of('official', mmdet) == TTA(resize_first=True).scaled(0.5)
    assert TTA.of(True, mmdet).pipeline(mmdet) == mmdet[1:]
    assert TTA.of('official', mmdet).pipeline(mmdet) == mmdet
    assert TTA.of(TWO_SIZES, mmdet) is TWO_SIZES and TTA(**asdict(TWO_SIZES)) == TWO_SIZES


@pytest.mark.parametrize(('step', 'message'), [
    (dict(type='Resize', scale=(640, 640), keep_ratio=False), 'does not know what to make of Resize'),
    (dict(type='ResizeShortSide', short_sides=(480, 800)), 'does not know what to make of ResizeShortSide'),
    (dict(type='Pad', size_divisor=32), 'does not know what to make of Pad in the test pipeline')])
def test_other_pipelines_are_refused(step: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TTA.of(True, [step, dict(type='PackDetInputs')])


def test_senseless_settings_are_told(small_checkpoint: Path, folder: Path, tool: Callable[..., int],
                                     capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match='has 2 short_sides and 1 box_sides'):
        TTA(short_sides=(100, 200), box_sides=((0, 100),))
    with pytest.raises(UserError, match="tta is True, 'official' or a TTA, not 'offical'"):
        Detector.from_checkpoint(small_checkpoint, device='cpu', tta='offical')
    with pytest.raises(UserError, match='is an exported file, which clips boxes'):
        sparse_rcnn_mm.evaluate('x.onnx', tta=True)
    assert tool('infer', folder / '0.png', '--model', 'x.onnx', '--tta-official') == 1
    assert 'x.onnx is an exported file, which clips boxes' in capsys.readouterr().err
    assert tool('test', 'x.onnx', '--tta', '--tta-official') == 2
    assert 'not allowed with' in capsys.readouterr().err
