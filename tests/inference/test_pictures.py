"""Pictures of detections and of stages."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from sparse_rcnn_mm.evaluation.plots import as_data_uri
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.stages import follow_stages
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.visualization import (
    Mark,
    animate_stages,
    class_colors,
    draw_boxes,
    enlarged,
    letters,
    stage_panels,
)
from sparse_rcnn_mm.visualization.draw import ink_on
from sparse_rcnn_mm.visualization.letters import drawable, in_plots
from sparse_rcnn_mm.visualization.stages import _moments, panel
from tests.kit import CONFIGS

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_small_images_are_enlarged_and_others_kept() -> None:
    for size, factor in (((192, 192), 2), ((64, 64), 8), ((480, 640), 1), ((2000, 3000), 1), ((10, 1000), 1)):
        picture, found = enlarged(np.zeros((*size, 3), np.uint8))
        assert (found, picture.size) == (factor, (size[1] * factor, size[0] * factor))


def test_boxes_lie_where_they_should_and_the_first_is_on_top() -> None:
    picture = Image.new('RGB', (500, 500))
    pixels = np.asarray(draw_boxes(picture, [Mark((100, 150, 300, 400), RED), Mark((100, 150, 400, 450), BLUE)]))
    rows, columns = np.nonzero((pixels == RED).all(-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (100, 150, 300, 400)
    rows, columns = np.nonzero((pixels == BLUE).all(-1))
    assert (columns.max(), rows.max()) == (400, 450) and not (pixels[150, 100:300] == BLUE).all(-1).any()


def test_labels_cover_neither_each_other_nor_leave_the_picture() -> None:
    colors = class_colors(5)
    marks = [Mark((3 * i, 2 * i, 460 + i, 470), colors[i], f'class {i} 0.{i}') for i in range(5)]
    pixels = np.asarray(draw_boxes(Image.new('RGB', (500, 500)), marks))
    areas = [int((pixels == color).all(-1).sum()) for color in colors]
    alone = [int((np.asarray(draw_boxes(Image.new('RGB', (500, 500)), [mark])) == mark.color).all(-1).sum())
             for mark in marks]
    plain = [int((np.asarray(draw_boxes(Image.new('RGB', (500, 500)), [mark._replace(text='')])) == mark.color)
                 .all(-1).sum()) for mark in marks]
    for area, one, box in zip(areas, alone, plain, strict=True):
        assert area > (one - box) * 0.95  # at least the label is seen


def test_where_there_is_no_room_the_label_of_the_first_is_on_top() -> None:
    crowd = [Mark((30, 0, 90, 40), color, '0.5') for color in (RED, *[(0, 0, 250 - i) for i in range(12)])]
    crowded, alone = (np.asarray(draw_boxes(Image.new('RGB', (120, 40)), marks)) for marks in (crowd, crowd[:1]))
    label = np.s_[:16, 31:50]
    assert (alone[label] == RED).all(-1).any()
    assert (crowded[label] == alone[label]).all()


def test_boxes_outside_or_of_no_area_do_no_harm() -> None:
    for box in ((-50, -50, -10, -10), (600, 600, 700, 700), (5, 5, 5, 5), (9, 9, 3, 3), (-1e6, -1e6, 1e6, 1e6)):
        draw_boxes(Image.new('RGB', (500, 500)), [Mark(box, RED, 'x' * 300)])


def test_colors_differ_and_ink_is_readable() -> None:
    colors = class_colors(80)
    assert len(set(colors)) == 80
    assert class_colors(2, [(1, 2, 3), (4, 5, 6), (7, 8, 9)]) == [(1, 2, 3), (4, 5, 6)]
    assert len(class_colors(3, [(1, 2, 3)])) == 3
    assert ink_on((255, 255, 0)) == (0, 0, 0) and ink_on((0, 0, 160)) == (255, 255, 255)


@pytest.fixture(scope='module')
def plain(checkpoint: Path) -> Detector:
    """With the classes of every stage."""
    return Detector.from_checkpoint(checkpoint, device='cpu', fast=False)


def test_followed_boxes_start_at_the_learned_ones_and_end_at_the_detections(
        detector: Detector, plain: Detector, colored: Callable[..., np.ndarray]) -> None:
    image = colored(1, 300, 400)
    stages = follow_stages(plain, image, score_thr=0.2)
    assert stages.boxes.shape == (4, 20, 4) and stages.scores.shape == (3, 20)
    cx, cy, w, h = plain.backend.model.rpn_head.init_proposal_bboxes.weight.detach().numpy().T
    learned = np.stack([(cx - w / 2) * 400, (cy - h / 2) * 300, (cx + w / 2) * 400, (cy + h / 2) * 300], 1)
    np.testing.assert_allclose(stages.boxes[0], learned, atol=1e-2)
    found = detector(image)
    compared = 0
    for query in stages.kept:
        last = np.clip(stages.boxes[-1, query], 0, [400, 300, 400, 300])
        score = stages.scores[-1, query]
        if score > found.scores.min() and (last[2:] > last[:2]).all():  # the detector leaves out the others
            near = np.abs(found.boxes - last).max(1) < 0.05
            assert np.abs(found.scores[near] - score).min() < 1e-4
            assert stages.names[query] in np.array(found.names)[near]
            compared += 1
    assert compared > 3
    assert np.all(stages.scores[-1, stages.kept] >= 0.2) and np.all(np.diff(stages.scores[-1, stages.kept]) <= 0)
    assert len(stages.kept) == (stages.scores[-1] >= 0.2).sum()


def test_stage_scores_are_those_of_the_tensor_mode(plain: Detector, colored: Callable[..., np.ndarray]) -> None:
    image = colored(2, 192, 192)
    stages = follow_stages(plain, image)
    inputs = plain.prepare(image)['inputs'][None].float()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    with torch.no_grad():
        outputs = plain.backend.model((inputs - mean) / std, mode='tensor')
    for stage, (logits, boxes) in enumerate(outputs):
        scores = logits[0].sigmoid().numpy()
        np.testing.assert_allclose(stages.scores[stage], scores[np.arange(20), stages.labels], atol=1e-4)
        np.testing.assert_allclose(stages.boxes[stage + 1], boxes[0].numpy(), rtol=1e-4, atol=0.02)


def test_points_that_adamixer_sampled_are_drawn_where_it_looked(tmp_path: Path) -> None:
    """Untrained, every query of the first stage looks at the same offsets, in units of the whole image."""
    cfg = Config.fromfile(CONFIGS / 'adamixer_r18_digits.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict(), 'meta': {'cfg': cfg.pretty_text}}, tmp_path / 'adamixer.pth')
    image = np.zeros((200, 400, 3), np.uint8)
    stages = follow_stages(Detector.from_checkpoint(tmp_path / 'adamixer.pth', device='cpu', fast=False), image, 0.)
    offsets = model.roi_head.bbox_head[0].sampling_n_mixing.sampling_offset_generator[0].bias.detach().view(-1, 3)
    expected = (offsets[:, :2].numpy() + 0.5) * [400, 200]
    assert stages.points.shape == (3, 20, 128, 2)
    np.testing.assert_allclose(stages.points[0], np.broadcast_to(expected, (20, 128, 2)), atol=1e-3)
    picture = np.asarray(panel(image, dataclasses.replace(stages, kept=stages.kept[:1]), 1, side=400))[-200:]
    ((red, green, blue),) = class_colors(1)
    x, y = expected.round().astype(int).clip(0, [399, 199]).T
    assert (picture[y, x] == [red, green, blue]).all(-1).mean() > 0.9  # the label covers some


def test_pictures_of_stages(plain: Detector, tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    image = colored(3, 600, 900)
    stages = follow_stages(plain, image, 0.1)
    page = stage_panels(image, stages, side=300)
    assert page.width == 4 * 300 + 3 * 6 and 200 < page.height < 240
    assert stage_panels(image, stages, columns=2, side=300).width == 2 * 300 + 6
    animate_stages(image, stages, tmp_path / 'a.gif', side=300, steps=4)
    with Image.open(tmp_path / 'a.gif') as animation:
        durations = []
        for index in range(animation.n_frames):
            animation.seek(index)
            durations.append(animation.info['duration'])
    assert len(durations) == 1 + 3 * 4 and [d > 1000 for d in durations] == [True] + [False, False, False, True] * 3


def test_moments_pass_every_stage_in_order() -> None:
    moments = list(_moments(3, 6))
    times = [moment for moment, _ in moments]
    assert times == sorted(times) and [moment for moment, rest in moments if rest] == [0, 1, 2, 3]


NAMES = ['信号灯', 'سلام', 'привет', '\ud800', 'a\0b', 'a\nb', '\u202eabc', '\U000e0041', '👩\u200d🔬', 'x' * 5000,
         '', '\n', ' ', '\t', '$\\frac{$', '_x', '\uffff']


@settings(max_examples=60, deadline=None)
@given(text=st.sampled_from(NAMES) | st.text(st.characters()),
       box=st.lists(st.floats() | st.integers(-2 ** 70, 2 ** 70), min_size=4, max_size=4))
def test_any_text_and_any_box_can_be_drawn(text: str, box: list[float]) -> None:
    for marks in ([Mark((10, 10, 90, 40), RED, f'{text} 0.98')], [Mark(box, RED, text)]):
        draw_boxes(Image.new('RGB', (120, 60)), marks)


@pytest.mark.parametrize('box', [(10, 20, 60, 1e20), (10, 20, 60, float('inf')), (10, 20, 60, 10 ** 6)])
def test_a_box_far_beyond_the_picture_is_drawn_as_one_beyond_it(box: tuple) -> None:
    drawn, wanted = (np.asarray(draw_boxes(Image.new('RGB', (100, 50)), [Mark(one, RED)]))
                     for one in (box, (10, 20, 60, 90)))
    np.testing.assert_array_equal(drawn, wanted)


def test_long_names_keep_their_start_and_score() -> None:
    assert drawable('cat ' + 'x' * 500 + ' 0.98') == 'cat ' + 'x' * 43 + '…' + 'x' * 7 + ' 0.98'
    assert drawable('a\nb\x1b') == r'a\nb\x1b'


def test_letters_that_the_font_lacks_are_said_once(monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(letters, '_said', set())
    for name in ('cat', 'Straße', 'привет', 'سلام', 'می\u200cخواهم'):  # noqa: RUF001
        drawable(name)
    assert not capsys.readouterr().out
    for _ in range(3):
        draw_boxes(Image.new('RGB', (100, 50)), [Mark((10, 20, 60, 40), RED, '猫 0.98'), Mark((0, 0, 9, 9), RED, '犬')])
    assert capsys.readouterr().out == ('pictures: the font DejaVuSans lacks letters of some names, such as 猫 (CJK '
                                       'UNIFIED IDEOGRAPH-732B); a box is drawn for each\n')


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('name', NAMES)
def test_any_name_can_stand_in_a_plot(name: str) -> None:
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], label=in_plots(f'{name} 0.98'))
    axis.set_xticks([0], [in_plots(name)])
    assert [text.get_text().endswith(' 0.98') for text in axis.legend().texts] == [True]
    assert as_data_uri(figure).startswith('data:image/png')
