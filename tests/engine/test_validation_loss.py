"""The validation loss: against the criterion by hand, in the logs, and watched by early stopping."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.engine.hooks.curves import read_history
from sparse_rcnn_mm.registry import DATASETS, MODELS
from tests.kit import CONFIGS, DIGITS_CONFIG

HOOK = 'default_hooks.validation_loss.type=ValidationLossHook'


def test_it_is_the_training_loss_of_all_validation_images_as_one_batch(
        tool: Callable[..., int], small: list[str], tmp_path: Path) -> None:
    """Whatever the batch size of the validation. Resized images: boxes are in their pixels."""
    pipeline = Config.fromfile(DIGITS_CONFIG).test_dataloader.dataset.pipeline
    place = next(i for i, step in enumerate(pipeline) if step.type == 'ResizeShortSide')
    resized = [f'{split}_dataloader.dataset.pipeline.{place}.short_sides=96' for split in ('val', 'test')]
    for batch in (1, 4):
        assert tool('train', DIGITS_CONFIG, '--work-dir', f'work{batch}', *small, *resized, HOOK,
                    f'val_dataloader.batch_size={batch}') == 0
    one, four = (read_history(tmp_path / f'work{batch}').val[4] for batch in (1, 4))
    assert one['val_loss'] == pytest.approx(four['val_loss'], rel=1e-5)

    contents = read_checkpoint(tmp_path / 'work4' / 'iter_4.pth')
    cfg = Config.fromstring(contents['meta']['cfg'], '.py')
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(cfg.model).eval()
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        model.load_state_dict(contents['state_dict'])
        batch = model.data_preprocessor(pseudo_collate([dataset[index] for index in range(4)]))
        for sample in batch['data_samples']:
            assert sample.img_shape == (96, 96) and sample.ori_shape == (192, 192)
            sample.gt_instances.bboxes = sample.gt_instances.bboxes / 2
        with torch.no_grad():
            expected = model.loss(batch['inputs'], batch['data_samples'])
    for name, loss in expected.items():
        assert four[f'val_{name}'] == pytest.approx(float(loss), rel=1e-4)
    assert four['val_loss'] == pytest.approx(float(sum(expected.values())), rel=1e-4)


def test_early_stopping_watches_it(tool: Callable[..., int], small: list[str], tmp_path: Path) -> None:
    stopping = 'default_hooks.early_stopping'
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *small, HOOK, 'train_cfg.val_interval=1',
                f'{stopping}.type=EarlyStoppingHook', f'{stopping}.monitor=val_loss', f'{stopping}.rule=less',
                f'{stopping}.min_delta=1e9', f'{stopping}.patience=2') == 0
    assert sorted(read_history(tmp_path / 'work').val) == [1, 2, 3]  # of 4: the second and third are not better


@pytest.mark.parametrize('name', ['adamixer_r18_digits', 'ddq_rcnn_r18_digits', 'sqr_r18_digits'])
def test_with_every_detector(tool: Callable[..., int], small: list[str], tmp_path: Path, name: str) -> None:
    options = [option for option in small if not option.startswith(('model.backbone', 'model.neck'))]
    assert tool('train', CONFIGS / f'{name}.py', '--work-dir', 'work', *options, HOOK, 'train_cfg.max_iters=1') == 0
    row = read_history(tmp_path / 'work').val[1]
    parts = [value for key, value in row.items() if key.startswith('val_') and 'loss' in key and key != 'val_loss']
    assert row['val_loss'] == pytest.approx(sum(parts), rel=1e-5)
