"""Training, resuming and testing through the tools, and the sentences they end in on bad input."""
from __future__ import annotations

import json
import pickle
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_rcnn_mm.models import SparseRCNN
from tests.kit import DIGITS_CONFIG, ROOT
from tests.kit.data_sets import write_squares

Tool = Callable[..., int]
COCO_CONFIG = str(ROOT / 'configs/sparse_rcnn_r50_3x.py')


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)['state_dict']


def log_of(work_dir: Path) -> list[dict]:
    """The training log of every run in a work dir, in order."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def error_of(capsys: pytest.CaptureFixture) -> str:
    """The one line that a tool ended with."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    return lines[0]


def test_train_resume_and_test(tool: Tool, small: list[str], tmp_path: Path) -> None:
    """Training in two parts gives the weights of training in one; testing writes what it was asked for."""
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', *small) == 0
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'parts', '--resume', 'whole/iter_2.pth', *small) == 0
    whole, parts = weights(tmp_path / 'whole/iter_4.pth'), weights(tmp_path / 'parts/iter_4.pth')
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [row['step'] for row in log_of(tmp_path / 'parts') if 'loss' in row] == [3, 4]

    shown = tmp_path / 'shown'
    assert tool('test', DIGITS_CONFIG, 'whole/iter_4.pth', '--out', 'out.pkl', '--show-dir', str(shown), *small) == 0
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert [p['img_id'] for p in predictions] == [1, 2, 3, 4]
    for prediction in predictions:
        boxes, scores = (np.asarray(prediction['pred_instances'][key]) for key in ('bboxes', 'scores'))
        assert (np.diff(scores) <= 0).all()
        assert ((boxes >= 0) & (boxes <= 192)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    pictures = sorted(shown.glob('*.jpg'))
    assert len(pictures) == 4
    assert Image.open(pictures[0]).height == 192


@pytest.mark.slow
def test_every_image_of_a_test_keeps_its_picture(tool: Tool, small: list[str], digits: Path, tmp_path: Path) -> None:
    """Images of one name in two folders, one whose picture would be of the name of another, and one of 16 bits."""
    content = json.loads((digits / 'val.json').read_text())
    names = ['deep/a/0.png', 'deep/b/0.png', 'deep/b/0.tif.jpg', 'deep/b/0.tif']
    for number, (image, name) in enumerate(zip(content['images'], names, strict=False)):
        (tmp_path / 'data' / name).parent.mkdir(parents=True, exist_ok=True)
        gray = Image.new('L', (40 + number, 40), 100)
        (Image.fromarray(np.full((40, 43), 25700, np.uint16)) if name.endswith('.tif') else gray).save(
            tmp_path / 'data' / name)
        image.update(file_name=name, width=40 + number, height=40)
    content['images'] = content['images'][:4]
    content['annotations'] = [one for one in content['annotations'] if one['image_id'] <= 4]
    (tmp_path / 'data/val.json').write_text(json.dumps(content))
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'run', *small, 'train_cfg.max_iters=2') == 0
    assert tool('test', DIGITS_CONFIG, 'run/iter_2.pth', '--show-dir', 'shown', *small,
                'test_dataloader.dataset.data_root=data', 'test_dataloader.dataset.data_prefix.img=',
                'test_dataloader.dataset.ann_file=val.json', 'test_evaluator.ann_file=data/val.json') == 0
    pictures = {path.relative_to(tmp_path / 'shown').as_posix(): Image.open(path)
                for path in (tmp_path / 'shown').rglob('*.*') if path.suffix != '.txt'}
    # ground truth at the left, detections at the right
    assert {name: picture.width for name, picture in pictures.items()} == {
        'a/0.png': 80, 'b/0.png': 82, 'b/0.tif.jpg': 84, 'b/0.tif_2.jpg': 86}
    assert abs(np.bincount(np.asarray(pictures['b/0.tif_2.jpg']).ravel()).argmax() - 100) <= 2


@pytest.mark.slow
def test_mixed_precision_and_batch_scaling(tool: Tool, small: list[str], tmp_path: Path) -> None:
    """bfloat16 training follows float32, at the learning rate scaled from a batch of 4 to 2."""
    options = [*small, 'param_scheduler=None', 'optim_wrapper.optimizer.lr=1e-4']
    options.append('train_dataloader.batch_size=2')
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'fp32', *options) == 0
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'bf16', '--amp', '--auto-scale-lr', *options) == 0
    fp32, bf16 = log_of(tmp_path / 'fp32'), log_of(tmp_path / 'bf16')
    assert bf16[0]['loss'] == pytest.approx(fp32[0]['loss'], rel=0.05)
    assert bf16[0]['loss'] != fp32[0]['loss']
    assert (fp32[0]['lr'], bf16[0]['lr']) == pytest.approx((1e-4, 1e-4 * 2 / 4))


def test_an_earlier_training_is_not_overwritten(tool: Tool, small: list[str], tmp_path: Path,
                                                capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'done').mkdir()
    (tmp_path / 'done/iter_9.pth').write_bytes(b'precious')
    (tmp_path / 'done/data').mkdir()
    (tmp_path / 'done/data/val.json').write_text('of that training')
    files = {path: path.read_bytes() for path in (tmp_path / 'done').rglob('*') if path.is_file()}
    data = write_squares(tmp_path / 'other', ['cat', 'dog'])
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'done', '--data', data, *small) == 1
    assert 'iter_9.pth is from an earlier training' in error_of(capsys)
    assert {path: path.read_bytes() for path in (tmp_path / 'done').rglob('*') if path.is_file()} == files


def test_checkpoints_in_another_folder(tool: Tool, small: list[str], tmp_path: Path,
                                       capsys: pytest.CaptureFixture) -> None:
    """mmengine's `out_dir`: the folder is made, and an earlier training in it is not overwritten."""
    options = [*small, 'default_hooks.checkpoint.out_dir=scratch', 'train_cfg.max_iters=2']
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *options) == 0
    written = (tmp_path / 'scratch/work/iter_2.pth').read_bytes()
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *options) == 1
    assert 'scratch/work/iter_2.pth is from an earlier training' in error_of(capsys)
    assert (tmp_path / 'scratch/work/iter_2.pth').read_bytes() == written


def test_a_bad_image_stops_training_and_nothing_is_lost(tool: Tool, small: list[str], digits: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    images = json.loads((digits / 'train.json').read_text())
    (tmp_path / 'train').symlink_to(digits / 'train')
    images['images'][7]['file_name'] = '../broken.jpg'
    (tmp_path / 'train.json').write_text(json.dumps(images))
    (tmp_path / 'broken.jpg').write_bytes((digits / 'train/000001.jpg').read_bytes()[:500])
    options = [*small, f'train_dataloader.dataset.data_root={tmp_path}', 'default_hooks.checkpoint.interval=100',
               'train_cfg.max_iters=16', 'train_dataloader.batch_size=1']
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *options) == 1
    assert 'broken.jpg' in error_of(capsys)
    saved = list((tmp_path / 'work').glob('iter_*.pth'))
    assert len(saved) == 1
    assert all(value.isfinite().all() for value in weights(saved[0]).values())
    assert (tmp_path / 'work/last_checkpoint').read_text().endswith(saved[0].name)


def test_non_finite_predictions_stop_training(tool: Tool, small: list[str], tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    """An absurd learning rate: the last good checkpoint stays, and none with NaN is written."""
    options = [*small, 'param_scheduler=None', 'optim_wrapper.optimizer.lr=1e38', 'optim_wrapper.clip_grad=None',
               'default_hooks.checkpoint.interval=100']
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *options) == 1
    assert 'not finite' in error_of(capsys)
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize(('arguments', 'said'), [
    (['nowhere.py'], 'there is no config file nowhere.py'),
    (['sparse_rcnn_r50_x3'], "there is no config file sparse_rcnn_r50_x3 (did you mean 'sparse_rcnn_r50_3x'?)"),
    ([COCO_CONFIG, '--cfg-options', 'lr=0.1'], "unknown setting 'lr'; did you mean optim_wrapper.optimizer.lr?"),
    ([COCO_CONFIG, '--cfg-options', 'model.roi_head.bbox_head.num_class=3'],
     "DIIHead has no argument 'num_class' (did you mean 'num_classes'?)"),
    ([COCO_CONFIG, '--cfg-options', 'model.criterion.loss_iou.type=GIoULos'],
     "the config names the model 'GIoULos', which does not exist (did you mean 'GIoULoss'?)"),
    ([DIGITS_CONFIG, '--resume', 'nowhere.pth'], 'there is no checkpoint nowhere.pth'),
])
def test_bad_arguments(tool: Tool, small: list[str], capsys: pytest.CaptureFixture, arguments: list[str],
                       said: str) -> None:
    if '--cfg-options' not in arguments:
        arguments = [*arguments, *small]
    assert tool('train', *arguments) == 1
    assert said in error_of(capsys)


def test_no_coco(tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert tool('train', COCO_CONFIG, '--cfg-options', 'model.backbone.init_cfg=None') == 1
    said = error_of(capsys)
    assert str(tmp_path / 'data/coco/annotations/instances_train2017.json') in said
    assert 'sparse-rcnn download coco' in said


def test_no_network_for_the_pretrained_weights(tool: Tool, small: list[str], tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError('Name or service not known')

    monkeypatch.setattr(urllib.request, 'urlopen', offline)
    monkeypatch.setattr(torch.hub, 'urlopen', offline)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    url = 'https://download.pytorch.org/models/resnet18-f37072fd.pth'
    config = tmp_path / 'pretrained.py'
    pretrained = dict(type='Pretrained', checkpoint=url, _delete_=True)
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\nmodel = dict(backbone=dict(init_cfg={pretrained}))\n")
    assert tool('train', str(config), *small) == 1
    said = error_of(capsys)
    assert f'{url} cannot be fetched (Name or service not known)' in said
    assert '--cfg-options model.backbone.init_cfg=None' in said


def test_a_checkpoint_of_another_shape(tool: Tool, small: list[str], tmp_path: Path,
                                       capsys: pytest.CaptureFixture) -> None:
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *small, 'train_cfg.max_iters=2') == 0
    capsys.readouterr()
    assert tool('test', DIGITS_CONFIG, 'work/iter_2.pth', *small, 'model.rpn_head.num_proposals=7') == 1
    assert 'num_proposals = 20' in error_of(capsys)


def test_one_class_and_a_class_list_that_does_not_match(tool: Tool, small: list[str],
                                                        capsys: pytest.CaptureFixture) -> None:
    options = [*small, 'train_dataloader.dataset.metainfo.classes=[raccoon]']
    assert tool('train', DIGITS_CONFIG, *options) == 1
    assert 'raccoon' in error_of(capsys)
    one_class = [*small, 'model.roi_head.bbox_head.num_classes=1',
                 *(f'{split}_dataloader.dataset.metainfo.classes=["3"]' for split in ('train', 'val', 'test'))]
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'one', *one_class) == 0


def test_the_model_is_ours() -> None:
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from sparse_rcnn_mm.registry import MODELS
    init_default_scope('sparse_rcnn_mm')
    assert MODELS.get(Config.fromfile(COCO_CONFIG).model.type) is SparseRCNN
