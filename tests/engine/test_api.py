"""Training and evaluation from Python."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import DictAction

import sparse_rcnn_mm
from sparse_rcnn_mm.errors import UserError
from tests.kit import ROOT
from tests.kit.data_sets import write_squares


def options_of(small: list[str]) -> dict[str, object]:
    """The values of --cfg-options as Python."""
    return {key: DictAction._parse_iterable(value) for key, value in (item.split('=', 1) for item in small[1:])}


def scalars(work_dir: Path) -> list[dict]:
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_train_then_evaluate_then_train_again(small: list[str], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process: the metric is that of training's own validation, and each run logs into its own folder."""
    monkeypatch.chdir(tmp_path)
    options = {**options_of(small), 'param_scheduler': None}  # the schedule follows the length of a training
    last = sparse_rcnn_mm.train('sparse_rcnn_r18_digits', work_dir='one', cfg_options=options)
    assert last == tmp_path / 'one/iter_4.pth'
    validated = {name: value for name, value in scalars(tmp_path / 'one')[-1].items() if name.startswith('coco/')}
    metrics = sparse_rcnn_mm.evaluate(last, config='sparse_rcnn_r18_digits', cfg_options=options, work_dir='tested')
    assert metrics == pytest.approx({name: metrics[name] for name in validated} | validated)
    assert len(validated) >= 6
    from_inside = sparse_rcnn_mm.evaluate(last, work_dir='inside')  # no config: the one in the checkpoint
    assert from_inside == pytest.approx(metrics)

    sparse_rcnn_mm.train('sparse_rcnn_r18_digits', work_dir='two', cfg_options={**options, 'train_cfg.max_iters': 3})
    assert [row['step'] for row in scalars(tmp_path / 'one') if 'loss' in row] == [1, 2, 3, 4]
    assert [row['step'] for row in scalars(tmp_path / 'two') if 'loss' in row] == [1, 2, 3]
    one, two = (torch.load(tmp_path / path, weights_only=True)['state_dict'] for path in (
        'one/iter_2.pth', 'two/iter_2.pth'))
    assert all(torch.equal(one[name], two[name]) for name in one)  # nothing of the first training is left


@pytest.mark.slow
def test_own_data_from_weights_of_other_classes(small: list[str], checkpoint: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_squares(tmp_path / 'data', ['light', 'dark'])
    options = {name: value for name, value in options_of(small).items() if name.startswith(('train_cfg', 'default'))}
    best = sparse_rcnn_mm.train('sparse_rcnn_r18_digits', data, load_from=checkpoint, load_partial=True,
                                cfg_options={**options, 'train_dataloader.batch_size': 2})
    assert best == tmp_path / 'work_dirs/sparse_rcnn_r18_digits/iter_4.pth'
    assert sparse_rcnn_mm.Detector.from_checkpoint(best, device='cpu').classes == ('light', 'dark')
    metrics = sparse_rcnn_mm.evaluate(best, data)
    assert 0 <= metrics['coco/bbox_mAP'] <= metrics['coco/bbox_mAP_50'] <= 1


def test_contradictions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--load-from starts a new training and --resume continues one'):
        sparse_rcnn_mm.train('sparse_rcnn_r18_digits', load_from='a.pth', resume=True)
    with pytest.raises(UserError, match='--out x.json must end in .pkl'):
        sparse_rcnn_mm.evaluate('x.pth', out='x.json')
    with pytest.raises(UserError, match=r"\(did you mean 'sparse_rcnn_r18_digits'\?\)"):
        sparse_rcnn_mm.train('sparse_rcnn_digits_r18')


def test_importing_the_package_imports_no_room_above_checkpoints() -> None:
    code = ('import sys, sparse_rcnn_mm\n'
            "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('sparse_rcnn_mm.')}\n"
            "assert not rooms & {'models', 'engine', 'inference', 'datasets', 'evaluation', 'cli'}, rooms\n"
            "assert {'Detector', 'train', 'evaluate'} <= set(dir(sparse_rcnn_mm))\n"
            'assert sparse_rcnn_mm.Detector.__name__ == "Detector"\n')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="'sparse_rcnn_mm' has no attribute 'Detektor'"):
        _ = sparse_rcnn_mm.Detektor
