"""From a folder of one's own data to a checkpoint that knows its classes, by the fine-tuning config made tiny."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from sparse_rcnn_mm.engine import accumulate, log_to, set_training_data
from tests.kit import ROOT
from tests.kit.data_sets import write_squares

Tool = Callable[..., int]
FINETUNE = str(ROOT / 'configs/sparse_rcnn_r50_finetune.py')
TINY = [
    '--cfg-options', 'model.backbone.depth=18', 'model.backbone.base_channels=8', 'model.backbone.init_cfg=None',
    'model.neck.in_channels=[8,16,32,64]', 'model.neck.out_channels=32', 'model.rpn_head.num_proposals=10',
    'model.rpn_head.proposal_feature_channel=32', 'model.roi_head.num_stages=2',
    'model.roi_head.bbox_head.in_channels=32', 'model.roi_head.bbox_head.num_heads=4',
    'model.roi_head.bbox_head.feedforward_channels=64', 'model.roi_head.bbox_head.dynamic_conv.feat_channels=8',
    'train_dataloader.dataset.pipeline.3.short_sides=[64]', 'val_dataloader.dataset.pipeline.1.short_sides=64',
    'test_dataloader.dataset.pipeline.1.short_sides=64', 'train_cfg.max_epochs=2', 'randomness.seed=0',
    *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
]


@pytest.mark.slow
def test_train_fine_tune_and_test(tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The checkpoint has classes, ids, config; testing needs nothing else; new classes leave out only classifiers."""
    data = write_squares(tmp_path / 'pets', ['cat', 'dog'])
    assert tool('train', FINETUNE, '--data', str(data), '--work-dir', 'pets_work', *TINY) == 0
    said = capsys.readouterr().out
    assert 'train: train.json (8 images, 8 boxes); val: val.json (8 images, 8 boxes)' in said
    assert '2 classes: cat, dog' in said
    assert '16 images per step (1 x 4, gradients of 4 batches accumulated): learning rate 2.5e-05' in said
    compact = torch.load(tmp_path / 'pets_work/inference.pth', weights_only=True)
    assert sorted(compact) == ['meta', 'state_dict']
    assert tuple(compact['meta']['dataset_meta']['classes']) == ('cat', 'dog')
    assert tuple(compact['meta']['dataset_meta']['cat_ids']) == (5, 15)
    assert compact['state_dict']['roi_head.bbox_head.1.fc_cls.weight'].shape == (2, 32)
    (best,) = (tmp_path / 'pets_work').glob('best_*.pth')
    kept = torch.load(best, weights_only=True)
    assert all(torch.equal(kept['state_dict'][name], value) for name, value in compact['state_dict'].items())
    assert 'ema_state_dict' in kept

    # other order, other ids, one class more
    other = write_squares(tmp_path / 'other', ['dog', 'cat', 'emu'], ('test',))
    assert tool('test', 'pets_work/inference.pth', '--data', str(other), '--work-dir', 'tested') == 0
    said = capsys.readouterr().out
    assert 'boxes of classes that the model does not know are skipped: emu' in said
    written = json.loads((tmp_path / 'tested/test_data/test.json').read_text())
    assert written['categories'] == [{'id': 5, 'name': 'cat'}, {'id': 15, 'name': 'dog'}]
    assert [box['category_id'] for box in written['annotations']] == [5, 15, 5, 15, 5]
    assert tool('test', 'pets_work/inference.pth', '--work-dir', 'again') == 0  # on the validation data of the training

    birds = write_squares(tmp_path / 'birds', ['emu', 'owl', 'jay'])
    assert tool('train', FINETUNE, '--data', str(birds), '--load-from', 'pets_work/inference.pth', '--work-dir',
                'birds_work', *TINY) == 0
    log = next((tmp_path / 'birds_work').glob('*/*.log')).read_text()
    left_out = [line.split()[2] for line in log.splitlines() if line.startswith('left out')]
    assert left_out == [f'roi_head.bbox_head.{stage}.fc_cls.{part}:' for stage in (0, 1) for part in ('weight', 'bias')]


def test_data_that_stop_training_are_told_before_it(tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_squares(tmp_path / 'pets', ['cat', 'dog'])
    (data / 'train/3.png').write_bytes((data / 'train/3.png').read_bytes()[:200])
    assert tool('train', FINETUNE, '--data', str(data), *TINY) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'train/3.png (image 3 of train.json): cannot be decoded' in error
    assert 'list all: sparse-rcnn inspect' in error


def test_leaked_images_are_said_and_do_not_stop_training(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_squares(tmp_path / 'pets', ['cat', 'dog'])
    (data / 'val/3.png').write_bytes((data / 'train/3.png').read_bytes())
    cfg = Config.fromfile(FINETUNE)
    cfg.work_dir = str(tmp_path / 'work')
    set_training_data(cfg, str(data))
    assert ('warning: images in two splits: 1, so the AP will be too high; the first: val/3.png: of the val split is '
            'the same image as train/3.png of the train split') in capsys.readouterr().out


def test_inspection_by_the_tool(tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_squares(tmp_path / 'pets', ['cat', 'dog'])
    assert tool('inspect_dataset', str(data), '--out', 'seen', '--pictures', '2') == 0
    assert '0 errors\n\n0 warnings' in capsys.readouterr().out
    assert Image.open(tmp_path / 'seen/inspection.png').width == 2 * 326 + 6
    (data / 'val/3.png').write_bytes((data / 'train/3.png').read_bytes())
    assert tool('inspect_dataset', str(data), '--out', 'seen', '--pictures', '0') == 1
    assert 'val/3.png: of the val split is the same image as train/3.png' in capsys.readouterr().out


@pytest.mark.parametrize(('batch', 'processes', 'count', 'rate'), [
    (4, 1, 4, 2.5e-5), (2, 8, 1, 2.5e-5), (3, 1, 5, 2.5e-5 * 15 / 16), (8, 4, 1, 5e-5)])
def test_accumulation_to_the_official_batch(batch: int, processes: int, count: int, rate: float,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = Config.fromfile(FINETUNE)
    cfg.launcher = 'pytorch'
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    cfg.train_dataloader.batch_size = batch
    for _ in range(2):  # training from the config that the first training wrote out changes nothing more
        accumulate(cfg)
        assert cfg.optim_wrapper.accumulative_counts == count
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate)


def test_classes_reach_every_head_and_data_set(tmp_path: Path) -> None:
    cfg = Config.fromfile(FINETUNE)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.model.roi_head.mask_head = dict(num_classes=80)
    set_training_data(cfg, str(write_squares(tmp_path / 'one', ['leaf'])))
    assert (cfg.model.roi_head.bbox_head.num_classes, cfg.model.roi_head.mask_head.num_classes, cfg.num_classes) == (
        1, 1, 1)
    for part, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        assert cfg[f'{part}_dataloader'].dataset.metainfo.classes == ('leaf',)
        assert cfg[f'{part}_dataloader'].dataset.ann_file == str(tmp_path / f'work/data/{split}.json')
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == str(tmp_path / 'work/data/val.json')


def test_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard where it is installed; another one by its name, or a sentence."""
    from sparse_rcnn_mm.engine.hooks import trackers
    from sparse_rcnn_mm.errors import UserError

    cfg = Config.fromfile(FINETUNE)
    monkeypatch.setattr(trackers, 'find_spec', lambda name: None)
    log_to(cfg, None)
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend']
    with pytest.raises(UserError, match='--log-to wandb needs the package wandb: pip install wandb'):
        log_to(cfg, 'wandb')
    monkeypatch.setattr(trackers, 'find_spec', lambda name: object())
    log_to(cfg, None)
    log_to(cfg, 'mlflow')
    assert [backend['type'] for backend in cfg.visualizer.vis_backends] == [
        'LocalVisBackend', 'TensorboardVisBackend', 'MLflowVisBackend']
