"""A small data set that is quickly learned, a config for it, and faults to plant in either."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {'red': (220, 40, 40), 'green': (40, 200, 60), 'blue': (50, 60, 230)}
WIDTH, HEIGHT = 128, 96
CONFIG = """
_base_ = 'sparse_rcnn_mm::configs/sparse_rcnn_r18_digits.py'
size = [dict(type='ResizeShortSide', short_sides=96)]
train, test = _base_.train_pipeline, _base_.test_pipeline
train_dataloader = dict(dataset=dict(pipeline=[*train[:2], *size, *train[3:]]))
val_dataloader = dict(dataset=dict(pipeline=[test[0], *size, *test[2:]]))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[32, 64, 128], out_channels=48),
    rpn_head=dict(num_proposals=10, proposal_feature_channel=48),
    roi_head=dict(num_stages=2, bbox_head=dict(
        in_channels=48, feedforward_channels=96, dynamic_conv=dict(feat_channels=16))))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
"""


def write_config(folder: Path, more: str = '', config: str = CONFIG) -> Path:
    """The config, with more lines."""
    path = folder / 'small.py'
    path.write_text(f'{config}{more}\n')
    return path


def write_rectangles(root: Path, change: Callable[[dict], None] = lambda coco: None, images: int = 24) -> Path:
    """Colored rectangles on gray noise as COCO JSON, one to three in an image, far enough from its right and bottom.

    Args:
        change: plants a fault in the COCO dict of the split.
    """
    random = np.random.RandomState(0)
    for split in ('train', 'val'):
        coco: dict[str, list] = {'images': [], 'annotations': [], 'categories': [
            {'id': number, 'name': name} for number, name in enumerate(CLASSES, start=1)]}
        (root / split).mkdir(parents=True)
        for number in range(1, images + 1):
            pixels = random.randint(90, 130, (HEIGHT, WIDTH, 1)).repeat(3, 2).astype(np.uint8)
            for place in random.permutation(4)[:random.randint(1, 4)]:
                width, height = random.randint(14, 30, 2).tolist()
                x, y = int(place) % 2 * 50 + random.randint(2, 16), int(place) // 2 * 36 + random.randint(0, 5)
                label = random.randint(len(CLASSES))
                pixels[y:y + height, x:x + width] = list(CLASSES.values())[label]
                coco['annotations'].append({
                    'id': len(coco['annotations']) + 1, 'image_id': number, 'category_id': label + 1, 'iscrowd': 0,
                    'bbox': [x, y, width, height], 'area': width * height})
            Image.fromarray(pixels).save(root / split / f'{number}.png')
            coco['images'].append({'id': number, 'file_name': f'{number}.png', 'width': WIDTH, 'height': HEIGHT})
        change(coco)
        (root / f'{split}.json').write_text(json.dumps(coco))
    return root


def shifted(coco: dict, right: int = 12, down: int = 8) -> None:
    """Every box off by so many pixels."""
    for box in coco['annotations']:
        box['bbox'][0] += right
        box['bbox'][1] += down


def swapped(coco: dict) -> None:
    """x for y, width for height."""
    for box in coco['annotations']:
        x, y, width, height = box['bbox']
        box['bbox'] = [y, x, height, width]


def one_off(coco: dict) -> None:
    """Every class taken for the next one."""
    for box in coco['annotations']:
        box['category_id'] = box['category_id'] % len(CLASSES) + 1


def one_class(coco: dict) -> None:
    """All objects of one class."""
    coco['categories'] = [{'id': 1, 'name': 'thing'}]
    for box in coco['annotations']:
        box['category_id'] = 1


def empty(coco: dict) -> None:
    """No labels."""
    coco['annotations'] = []


# The same with masks, by the parts of `queryinst_r18_digits`.
MASK_CONFIG = CONFIG.replace('sparse_rcnn_r18_digits', 'queryinst_r18_digits').replace(
    '[*train[:2], *size', "[*train[:2], dict(type='LoadMasks'), *size") + """
model['roi_head']['mask_head'] = dict(in_channels=48, num_convs=1, feat_channels=16)
"""


def diamonds(coco: dict, right: float = 0, down: float = 0) -> None:
    """Every box gets a mask, the diamond in it, moved by so many pixels."""
    for box in coco['annotations']:
        x, y, width, height = box['bbox']
        x, y = x + right, y + down
        box['segmentation'] = [[x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height,
                                x, y + height / 2]]


def of_the_next(coco: dict) -> None:
    """Every mask belongs to the next object of the image."""
    diamonds(coco)
    for image in coco['images']:
        boxes = [box for box in coco['annotations'] if box['image_id'] == image['id']]
        masks = [box['segmentation'] for box in boxes]
        for box, mask in zip(boxes, [*masks[1:], *masks[:1]], strict=True):
            box['segmentation'] = mask
