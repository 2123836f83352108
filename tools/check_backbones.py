"""Try every backbone by `backbone=NAME` alone: python tools/check_backbones.py [NAME ...] prints a Markdown table.

Each backbone replaces that of the quick start's config. The detector trains for two steps on drawn rectangles, predicts
and is exported to ONNX, where the file must give PyTorch's detections. Parameters and FLOPs are those of the backbone,
the latter for 800 x 1216 pixels; times are for 192 x 192, with two images in a training step. Weights are random.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparse_rcnn_mm.backbones.known import KNOWN
from sparse_rcnn_mm.engine import load_config
from sparse_rcnn_mm.errors import UserError, one_sentence
from sparse_rcnn_mm.export import export
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.registry import MODELS, SCOPE, without_values
from sparse_rcnn_mm.terminal import show

OF_TIMM = ['pvt_v2_b2_li', 'convnext_tiny']
CONFIG = 'sparse_rcnn_r18_digits'
SIZE = (800, 1216)  # of the FLOPs
SIDE = 192
CLASSES = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', default=[*KNOWN, *OF_TIMM])
    return parser.parse_args()


def config_with(name: str) -> Config:
    return load_config(argparse.Namespace(config=CONFIG, work_dir=None, launcher='none', cfg_options={
        'backbone': name, 'model.backbone.init_cfg': None}))


def gigaflops(cfg: Config) -> float:
    """FLOPs of the backbone for one image; a multiply-add counts as two."""
    with without_values():
        backbone = MODELS.build(cfg.model.backbone)
        backbone.eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            backbone(torch.zeros(1, 3, *SIZE))
    return counter.get_total_flops() / 1e9


def rectangles(count: int) -> dict[str, Any]:
    """A batch of images with one bright rectangle each."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    inputs, samples = [], []
    for index in range(count):
        image = torch.full((3, SIDE, SIDE), 20, dtype=torch.uint8)
        x1, y1, x2, y2 = box = [20 + 9 * index, 30, 120 + 5 * index, 150]
        image[:, y1:y2, x1:x2] = 200
        sample = DetDataSample(metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([box], dtype=torch.float32),
                                           labels=torch.tensor([index % CLASSES]))
        inputs.append(image)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def train_two_steps(model: Any, cfg: Config) -> float:
    """Seconds of the second step.

    Raises:
        UserError: a loss is not finite, or the backbone does not learn.
    """
    model.train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    before = [value.clone() for value in model.backbone.parameters()]
    start = 0.
    for _ in range(2):
        start = time.perf_counter()
        losses = model.train_step(rectangles(2), optimizer)
        if not all(loss.isfinite() for loss in losses.values()):
            raise UserError('a loss is not finite')
    seconds = time.perf_counter() - start
    if all(torch.equal(value, old) for value, old in zip(model.backbone.parameters(), before, strict=True)):
        raise UserError('the backbone does not learn')
    return seconds


def like_a_trained_one(model: Any) -> None:
    """Scores that differ and boxes that move little, so that the rounding of another engine stays small."""
    for stage in model.roi_head.bbox_head:
        nn.init.normal_(stage.fc_cls.bias, std=1.0)
        stage.fc_reg.weight.data *= 0.1
    nn.init.uniform_(model.rpn_head.init_proposal_bboxes.weight, 0.2, 0.8)


def check(name: str) -> str:
    """A line of the table."""
    cfg = config_with(name)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(SCOPE):
        flops = gigaflops(config_with_all_levels(name))
        model = MODELS.build(cfg.model)
        model.init_weights()
        step = train_two_steps(model, cfg)
    like_a_trained_one(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'model.pth')
        torch.save({'state_dict': model.state_dict(), 'meta': {'cfg': cfg.pretty_text, 'dataset_meta': {
            'classes': [f'class {index}' for index in range(CLASSES)]}}}, path)
        detector = Detector.from_checkpoint(path, device='cpu')
        image = np.full((SIDE, SIDE, 3), 120, np.uint8)
        detector(image)
        start = time.perf_counter()
        found = detector(image)
        predict = time.perf_counter() - start
        if not len(found) or not np.isfinite(found.boxes).all():
            raise UserError('no finite detections')
        differences = export(Detector.from_checkpoint(path, device='cpu', fast=False), path.with_suffix('.onnx'),
                             cfg.pretty_text)
    millions = sum(value.numel() for value in model.backbone.parameters()) / 1e6
    return (f'| `{name}` | {millions:.2f} | {flops:.0f} | {1000 * step:.0f} | {1000 * predict:.0f} | '
            f'{str(differences).partition(";")[0]} |')


def config_with_all_levels(name: str) -> Config:
    return load_config(argparse.Namespace(config='sparse_rcnn_r50_3x', work_dir=None, launcher='none', cfg_options={
        'backbone': name, 'model.backbone.init_cfg': None}))


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('backbones', log_level='ERROR')
    show('| backbone | parameters, M | GFLOP | ms a training step | ms a prediction | ONNX file against PyTorch |\n'
         '|---|---|---|---|---|---|')
    for name in args.names:
        try:
            show(check(name))
        except UserError as error:
            show(f'| `{name}` | {error} |')


if __name__ == '__main__':
    with one_sentence():
        main()
