"""A dumped case as things to compare: the stored numbers, our model with the same weights, the same images."""
from functools import cache

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from sparse_rcnn_mm.checkpoints.keys import from_official_name
from sparse_rcnn_mm.checkpoints.official import Architecture, from_official
from sparse_rcnn_mm.registry import MODELS
from tests.kit import ROOT

from . import rule


class Dump(dict):
    """The arrays of a case by key; newline-joined names come as lists."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        sizes = (tuple(map(int, shape.split('x'))) for shape in self['shapes'])
        return dict(zip(self['names'], sizes, strict=True))

    @property
    def trainable(self) -> list[str]:
        return [name for name, kind in zip(self['names'], self['kind'], strict=True) if kind == 1]


@cache
def load_dump(case: str) -> Dump:
    with np.load(ROOT / 'tests' / 'data' / f'parity_{case}.npz') as arrays:
        return Dump((key, bytes(value).decode().split('\n') if value.dtype == np.uint8 else value)
                    for key, value in arrays.items())


def official_state(case: str) -> dict[str, torch.Tensor]:
    """The official state dict, filled by the rule."""
    return {name: torch.from_numpy(rule.fill(case, name, shape)) for name, shape in load_dump(case).shapes.items()}


def config_of(case: str, state: dict[str, torch.Tensor]) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / 'sparse_rcnn_r50_3x.py')
    Architecture.of(state).apply_to(cfg)
    cfg.model.roi_head.bbox_head.num_heads = rule.CASES[case].num_heads
    cfg.model.backbone.init_cfg = None
    return cfg


def build(case: str) -> tuple[torch.nn.Module, Config]:
    """Our model from our config, with the weights of the case, and the config."""
    init_default_scope('sparse_rcnn_mm')
    state = from_official(official_state(case))
    cfg = config_of(case, state)
    model = MODELS.build(cfg.model)
    model.load_state_dict(state)
    return model, cfg


def batch_of(case: str) -> dict:
    """What a data loader gives for the two images of a case. The detections are wanted in the size `ori_shape`."""
    inputs, samples = [], []
    for index, (height, width) in enumerate(rule.CASES[case].images):
        boxes, labels = rule.ground_truth(case, index)
        out_height, out_width = rule.output_size(case, index)
        sample = DetDataSample(metainfo=dict(
            img_id=index, img_shape=(height, width), ori_shape=(out_height, out_width),
            scale_factor=(width / out_width, height / out_height)))
        sample.gt_instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels))
        inputs.append(torch.from_numpy(rule.image(case, index)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def our_name(official: str) -> str:
    name = from_official_name(official)
    assert name is not None, official
    return name
