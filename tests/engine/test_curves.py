"""The training curves: what is read from the logs, and what is drawn."""
from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.engine.hooks.curves import CurvesHook, draw_curves, read_history
from tests.kit import DIGITS_CONFIG


def row(step: int, factor: float = 1.0) -> dict[str, float]:
    return {'step': step, 'iter': step, 'lr': factor * step, 'loss': factor * 10 / step,
            's0.loss_cls': factor * 3 / step, 's1.loss_cls': factor * 2 / step, 's1.loss_iou': factor * 5 / step}


def val(step: int, value: float) -> dict[str, float]:
    return {'step': step, 'coco/bbox_mAP': value, 'coco/bbox_mAP_50': 2 * value, 'coco/bbox_mAP_75': -1.0}


def write(work_dir: Path, run: str, *rows: dict[str, float] | str) -> None:
    folder = work_dir / run / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(r if isinstance(r, str) else json.dumps(r) for r in rows) + '\n')


def lines_of(axis_title: str, work_dir: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of the lines in the plot with a title."""
    axis, = (axis for axis in draw_curves(read_history(work_dir)).axes if axis.get_title() == axis_title)
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines}


def test_every_number_is_where_it_was_logged(tmp_path: Path) -> None:
    write(tmp_path, '1', row(50), row(100), val(0, 0.2), row(150), val(150, 0.3))
    # counted in epochs, the first validation is put at the iteration before it
    assert lines_of('AP on the validation data', tmp_path) == {'AP': ([100, 150], [0.2, 0.3]),
                                                               'AP50': ([100, 150], [0.4, 0.6])}
    assert lines_of('classification loss', tmp_path) == {'stage 1': ([50, 100, 150], [3 / 50, 3 / 100, 3 / 150]),
                                                         'stage 2': ([50, 100, 150], [2 / 50, 2 / 100, 2 / 150])}
    assert lines_of('GIoU loss', tmp_path) == {'stage 2': ([50, 100, 150], [5 / 50, 5 / 100, 5 / 150])}
    assert [*lines_of('loss, sum of all', tmp_path).values()] == [([50, 100, 150], [10 / 50, 10 / 100, 10 / 150])]
    assert [*lines_of('learning rate', tmp_path).values()] == [([50, 100, 150], [50, 100, 150])]


def test_a_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    """The first run went on to 150 after its checkpoint at 100, from which the second started; a test is none."""
    write(tmp_path, '20260101_1', row(50), row(100), val(100, 0.2), row(150), val(150, 0.9))
    write(tmp_path, '20260101_2', val(0, 0.7))
    write(tmp_path, '20260101_3', val(100, 0.3), row(150, 2), row(200, 2), val(200, 0.4))
    history = read_history(tmp_path)
    assert history.series('lr') == ([50, 100, 150, 200], [50, 100, 300, 400])
    assert history.metric('mAP') == ([100, 200], [0.3, 0.4])


def test_a_line_cut_off_by_a_crash_is_counted(tmp_path: Path) -> None:
    write(tmp_path, '1', row(50), '{"step": 100, "lo')
    history = read_history(tmp_path)
    assert history.series('lr') == ([50], [50])
    assert history.unreadable == 1


def test_a_picture_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, '1', row(50))
    (tmp_path / 'curves.png').mkdir()
    CurvesHook().after_train(SimpleNamespace(work_dir=str(tmp_path), logger=logging.getLogger('curves')))
    assert 'curves.png was not drawn: IsADirectoryError' in caplog.text


def test_training_leaves_its_curves(tool: Callable[..., int], small: list[str], tmp_path: Path) -> None:
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *small, 'train_cfg.val_interval=2') == 0
    picture = np.asarray(Image.open(tmp_path / 'work/curves.png').convert('RGB'))
    assert picture.std() > 5
    history = read_history(tmp_path / 'work')
    assert history.series('loss')[0] == [1, 2, 3, 4]
    assert history.metric('mAP')[0] == [2, 4]
    assert not list((tmp_path / 'work').glob('*.part.png'))
