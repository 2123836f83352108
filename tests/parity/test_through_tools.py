"""An official checkpoint, converted by the tool and tested by the tool, gives the official detections."""
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from . import rule
from .cases import ROOT, load_dump, official_state


def run(*command) -> str:
    result = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def write_coco(folder, case: str, classes) -> None:
    """The images and ground truths of a case as a COCO data set."""
    images, annotations = [], []
    for index, (height, width) in enumerate(rule.CASES[case].images):
        Image.fromarray(rule.image(case, index).transpose(1, 2, 0)).save(folder / f'{index}.png')
        images.append(dict(id=index, file_name=f'{index}.png', height=height, width=width))
        boxes, labels = (values.tolist() for values in rule.ground_truth(case, index))
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            annotations.append(dict(id=len(annotations) + 1, image_id=index, category_id=label + 1, iscrowd=0,
                                    bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1)))
    categories = [dict(id=index + 1, name=name) for index, name in enumerate(classes)]
    (folder / 'a.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def write_config(folder, text: str) -> None:
    """The config that a checkpoint carries, for this data set: one batch, whose images keep their size."""
    cfg = Config.fromstring(text, '.py')
    dataset = cfg.test_dataloader.dataset
    dataset.update(data_root=f'{folder}/', ann_file='a.json', data_prefix=dict(img=''))
    dataset.pipeline = [step for step in dataset.pipeline if not step.type.startswith('Resize')]
    cfg.test_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.test_evaluator.ann_file = f'{folder}/a.json'
    cfg.dump(folder / 'config.py')


@pytest.mark.slow
@pytest.mark.parametrize('case', ['tiny', 'r50_100'])
def test_conversion_and_test_give_the_official_detections(tmp_path, case):
    torch.save(dict(model=official_state(case), iteration=270_000), tmp_path / 'official.pth')
    options = ['--cfg-options', 'model.roi_head.bbox_head.num_heads=4'] if case == 'tiny' else []
    said = run('tools/convert_official_checkpoint.py', tmp_path / 'official.pth', tmp_path / 'ours.pth', *options)
    spec = rule.CASES[case]
    assert f'ResNet-50, {spec.num_proposals} proposals, {spec.num_classes} classes, {spec.num_stages} stages' in said

    meta = torch.load(tmp_path / 'ours.pth', weights_only=True)['meta']
    classes = meta['dataset_meta']['classes']
    assert meta['config_name'] == 'sparse_rcnn_r50_3x.py' and len(classes) == spec.num_classes
    assert classes[0] == ('person' if case == 'r50_100' else 'class_0')
    write_coco(tmp_path, case, classes)
    write_config(tmp_path, meta['cfg'])
    run('tools/test.py', tmp_path / 'config.py', tmp_path / 'ours.pth', '--work-dir', tmp_path / 'work',
        '--out', tmp_path / 'out.pkl')

    with open(tmp_path / 'out.pkl', 'rb') as file:
        predictions = pickle.load(file)
    dump = load_dump(case)
    for index, prediction in enumerate(predictions):
        (height, width), (out_height, out_width) = spec.images[index], rule.output_size(case, index)
        found = prediction['pred_instances']
        # The official numbers are for a larger output; rescaling and clipping commute.
        boxes = found['bboxes'].numpy() * np.array([out_width / width, out_height / height] * 2)
        order, expected = (np.argsort(-scores) for scores in (found['scores'].numpy(), dump[f'det{index}_scores']))
        assert np.abs(found['scores'].numpy()[order] - dump[f'det{index}_scores'][expected]).max() < 1e-4
        assert (found['labels'].numpy()[order] == dump[f'det{index}_labels'][expected]).all()
        largest = np.abs(dump[f'det{index}_boxes']).max()
        assert np.abs(boxes[order] - dump[f'det{index}_boxes'][expected]).max() < 1e-5 * largest
