"""The whole examination, from the command line to the page."""
from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.cli.doctor import main, parse_args
from sparse_rcnn_mm.diagnosis.follow import follow
from sparse_rcnn_mm.diagnosis.images import FewImages
from sparse_rcnn_mm.diagnosis.parts import measure_parts, part_of, random_statistics
from sparse_rcnn_mm.registry import MODELS, SCOPE
from tests.kit import ROOT
from tests.models.samples import rectangles

from .planted import empty, one_class, shifted, write_config, write_rectangles


def examined(folder: Path, *options: str, change: Callable[[dict], None] = lambda coco: None) -> tuple[int, dict]:
    """Status and numbers of `sparse-rcnn doctor` on rectangles."""
    data = write_rectangles(folder / 'data', change)
    status = main(['--data', str(data), '--config', str(write_config(folder)), '--out', str(folder / 'out'), *options])
    found = json.loads((folder / 'out/doctor.json').read_text())
    assert html.escape(found['conclusion']) in (folder / 'out/doctor.html').read_text()
    return status, found


@pytest.mark.slow
def test_a_sound_data_set_is_learned(tmp_path: Path) -> None:
    status, found = examined(tmp_path)
    assert status == 0
    assert found['conclusion'].startswith('all is well: ')
    assert {one['kind'] for one in found['verdicts']} == {'note'}
    measured = found['measured']
    assert measured['augmented'] == {'images': 8, 'before': 17, 'after': 17, 'masks_before': None, 'masks_after': None}
    assert measured['labels']['decided'] == 'as they are'
    last = measured['overfit']['after'][-1]
    assert last['reached'] > 0.9 > measured['overfit']['before'][-1]['reached']


@pytest.mark.slow
def test_shifted_labels_are_named_though_they_are_learned(tmp_path: Path) -> None:
    status, found = examined(tmp_path, '--iterations', '5', change=shifted)
    assert status == 1
    assert found['conclusion'].startswith('labels are shifted by 12 px right and 8 px down: ')
    assert len(found['measured']['overfit']['losses']) == 5
    assert found['measured']['learning_rate']['probes'] == []


def test_empty_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = examined(tmp_path, change=empty)
    assert status == 1
    assert found['conclusion'] == f'training does not start: no JSON file in {tmp_path / "data"} has a usable box'
    assert found['conclusion'] in capsys.readouterr().out
    assert found['measured']['overfit'] is None


def test_a_config_of_eighty_classes_for_one(tmp_path: Path) -> None:
    root = write_rectangles(tmp_path / 'data', one_class)
    path = write_config(tmp_path, f"""
one = dict(type='CocoDataset', data_root={f'{root}/'!r})
train_dataloader.update(dataset=dict(**train_dataloader['dataset'], **one))
val_dataloader.update(dataset=dict(**val_dataloader['dataset'], **one))
test_dataloader = val_dataloader
model['roi_head']['bbox_head']['num_classes'] = 80
""")
    assert main([str(path), '--out', str(tmp_path / 'out')]) == 1
    found = json.loads((tmp_path / 'out/doctor.json').read_text())
    assert found['conclusion'].startswith('the model has 80 classes, but the data have 1 class (thing): ')


def test_data_and_a_work_dir_are_not_both_taken() -> None:
    with pytest.raises(SystemExit):
        parse_args(['work_dirs/x', '--data', 'y'])


def small_model(**backbone: object) -> Any:
    cfg = Config.fromfile(ROOT / 'configs/sparse_rcnn_r18_digits.py')
    cfg.model.backbone.update(base_channels=8, **backbone)
    cfg.model.neck.in_channels = [16, 32, 64]
    with DefaultScope.overwrite_default_scope(SCOPE):
        return MODELS.build(cfg.model)


def test_parts_of_a_model() -> None:
    model = small_model()
    assert [part.name for part in measure_parts(model, None, False)] == [
        'backbone', 'neck', 'proposals', 'stage 1', 'classifier', 'stage 2', 'stage 3']
    assert part_of('roi_head.bbox_head.2.fc_cls.weight') == 'classifier'
    assert all(part.frozen == part.frozen_at_random == part.loaded == 0 for part in measure_parts(model, None, False))


def test_frozen_layers_are_random_unless_they_were_loaded() -> None:
    model = small_model(frozen_stages=1).train()
    backbone = measure_parts(model, None, False)[0]
    # the stem and the first stage of two blocks: five convolutions and their norms
    assert (backbone.frozen, backbone.frozen_at_random) == (15, 5)
    loaded = measure_parts(model, None, True)[0]
    assert (loaded.frozen_at_random, loaded.loaded) == (0, loaded.tensors)


def test_statistics_that_were_never_measured() -> None:
    assert random_statistics(small_model()) == 0
    model = small_model(norm_eval=True)
    assert random_statistics(model) == 20
    for norm in (one for one in model.modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)):
        norm.running_mean += 0.1
    assert random_statistics(model) == 0


def test_stages_of_perfect_boxes() -> None:
    """Proposals that are the ground truths reach all of them, at an IoU of 1 as long as no stage moves them."""
    model = small_model()
    batch = rectangles()
    sizes = [sample.img_shape[:2] for sample in batch['data_samples']]
    truths = torch.cat([sample.gt_instances.bboxes / torch.tensor([w, h, w, h]) for sample, (h, w) in
                        zip(batch['data_samples'], sizes, strict=True)])
    with torch.no_grad():
        boxes = model.rpn_head.init_proposal_bboxes.weight
        boxes[:len(truths)] = torch.cat([(truths[:, :2] + truths[:, 2:]) / 2, truths[:, 2:] - truths[:, :2]], 1)
        for stage in model.roi_head.bbox_head:
            stage.fc_reg.weight.zero_()
            stage.fc_reg.bias.zero_()
    stages = follow(model, [batch])
    assert [stage.reached for stage in stages] == pytest.approx([1.] * 4)
    assert stages[0].cost is None
    assert stages[-1].iou == pytest.approx(1, abs=1e-3)
    assert stages[-1].score == pytest.approx(0.01, abs=0.05)


def test_few_images_have_boxes_and_many_classes(tmp_path: Path) -> None:
    def first_only(coco: dict) -> None:
        coco['annotations'] = [box for box in coco['annotations'] if box['image_id'] <= 6]

    root = write_rectangles(tmp_path / 'data', first_only)
    cfg = Config.fromfile(write_config(tmp_path))
    for part in ('train', 'test'):
        cfg[f'{part}_dataloader'].dataset.update(
            type='CocoDataset', data_root=f'{root}/', metainfo=dict(classes=('red', 'green', 'blue')))
    images = FewImages(cfg, 3)
    assert all(info['instances'] for info in images.infos) and len(images.infos) == 3
    assert {one['bbox_label'] for info in images.infos for one in info['instances']} == {0, 1, 2}
    batches = [batch for batch, _ in zip(images.endless(), range(3), strict=False)]
    assert [len(batch['inputs']) for batch in batches] == [3, 3, 3]
    assert len(FewImages(cfg, 8).infos) == 6
