"""Checkpoints of mmdet's own Sparse R-CNN load strictly and give mmdet's numbers.

mmdet's model is built from the config that mmdet ships, in a small size. Its RoIAlign is a compiled operation, which
tests must not need, so a plain one takes its place, written from the definition and not from ours.
"""
from collections import OrderedDict
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from sparse_rcnn_mm.checkpoints import Metadata, load_checkpoint
from sparse_rcnn_mm.checkpoints.official import from_official

from . import rule
from .cases import batch_of, build, official_state

SHIPPED = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'sparse_rcnn' / 'sparse-rcnn_r50_fpn_1x_coco.py'
CASE = 'tiny'


class PlainRoIAlign(nn.Module):
    """RoIAlign (arXiv 1703.06870) as it is defined, box by box: aligned, 2x2 samples per bin, 7x7 bins."""

    output_size = (7, 7)

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, feat: Tensor, rois: Tensor) -> Tensor:
        """feat (B, C, H, W) and rois (R, 5) of image and corners to (R, C, 7, 7)."""
        return torch.stack([self.one(feat[int(roi[0])], roi[1:] / self.stride - 0.5) for roi in rois])

    def one(self, feat: Tensor, box: Tensor) -> Tensor:
        steps = (torch.arange(14) + 0.5) / 14
        x1, y1, x2, y2 = box
        ys, xs = torch.meshgrid(y1 + steps * (y2 - y1), x1 + steps * (x2 - x1), indexing='ij')
        return self.bilinear(feat, ys, xs).reshape(-1, 7, 2, 7, 2).mean((2, 4))

    @staticmethod
    def bilinear(feat: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
        height, width = feat.shape[1:]
        inside = (ys >= -1) & (ys <= height) & (xs >= -1) & (xs <= width)
        ys, xs = ys.clamp(0, height - 1), xs.clamp(0, width - 1)
        top, left = ys.long(), xs.long()
        bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        dy, dx = ys - top, xs - left
        upper = feat[:, top, left] * (1 - dx) + feat[:, top, right] * dx
        lower = feat[:, bottom, left] * (1 - dx) + feat[:, bottom, right] * dx
        return (upper * (1 - dy) + lower * dy) * inside


def build_mmdet() -> nn.Module:
    """mmdet's model from mmdet's config, with the sizes of the case."""
    case = rule.CASES[CASE]
    model = Config.fromfile(SHIPPED).model
    model.backbone.init_cfg = None
    model.neck.out_channels = model.rpn_head.proposal_feature_channel = case.channels
    model.rpn_head.num_proposals = case.num_proposals
    model.roi_head.update(num_stages=case.num_stages, stage_loss_weights=[1] * case.num_stages,
                          proposal_feature_channel=case.channels, bbox_head=model.roi_head.bbox_head[:case.num_stages])
    model.roi_head.bbox_roi_extractor.out_channels = case.channels
    for head in model.roi_head.bbox_head:
        head.update(num_classes=case.num_classes, num_heads=case.num_heads, feedforward_channels=case.ffn_channels,
                    in_channels=case.channels)
        head.dynamic_conv_cfg.update(in_channels=case.channels, out_channels=case.channels,
                                     feat_channels=case.dynamic_channels)
    model.train_cfg.rcnn = model.train_cfg.rcnn[:case.num_stages]
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MMDET_MODELS.build(model)
    for extractor in detector.roi_head.bbox_roi_extractor:
        extractor.roi_layers = nn.ModuleList(PlainRoIAlign(stride) for stride in (4, 8, 16, 32))
    return detector.eval()


def layout(version: int, model: nn.Module) -> dict:
    """A checkpoint as mmdet 2.x (mmcv's runner) or 3.x (mmengine's) writes it."""
    classes = ('a', 'b', 'c', 'd', 'e')
    state = OrderedDict((name, value.cpu()) for name, value in model.state_dict().items())
    if version == 2:
        return dict(meta=dict(epoch=36, mmdet_version='2.8.0+e97e900', CLASSES=classes, config='model = ...',
                              seed=None, hook_msgs={}), state_dict=state)
    return dict(meta=dict(epoch=36, mmengine_version='0.10.7', cfg='model = ...',
                          dataset_meta=dict(CLASSES=classes, PALETTE=[(0, 0, 0)] * 5)),
                state_dict=state, message_hub={})


@pytest.mark.parametrize('version', [2, 3])
def test_mmdet_checkpoint_loads_strictly_and_gives_mmdets_logits(tmp_path, version):
    theirs, (ours, _) = build_mmdet(), build(CASE)
    theirs.load_state_dict(from_official(official_state(CASE)))
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    torch.save(layout(version, theirs), tmp_path / 'mmdet.pth')
    checkpoint, report = load_checkpoint(ours, tmp_path / 'mmdet.pth')
    assert report.complete and Metadata.of(checkpoint, 'x').classes == ('a', 'b', 'c', 'd', 'e')

    ours.eval()
    data = ours.data_preprocessor(batch_of(CASE))
    with torch.no_grad():
        stages = run_stages(theirs, data['inputs'], data['data_samples'])
        found = ours(**data, mode='tensor')
    assert len(stages) == len(found) == 3
    for (logits, boxes), stage in zip(found, stages, strict=True):
        assert (logits - stage['cls_score']).abs().max() < 1e-5
        largest = stage['decoded_bboxes'].abs().max()
        assert (boxes.flatten(0, 1) - stage['decoded_bboxes']).abs().max() < 1e-5 * largest


def run_stages(model: nn.Module, inputs: Tensor, samples: list) -> list[dict]:
    """What mmdet's prediction does. Its tensor mode hands the first proposals to every stage, so cannot serve here."""
    feats = model.extract_feat(inputs)
    proposals = model.rpn_head.predict(feats, samples, rescale=False)
    boxes, queries = [p.bboxes for p in proposals], torch.stack([p.features for p in proposals])
    stages = []
    for stage in range(model.roi_head.num_stages):
        metas = [sample.metainfo for sample in samples]
        stages.append(model.roi_head._bbox_forward(stage, feats, bbox2roi(boxes), queries, metas))
        boxes, queries = stages[-1]['detached_proposals'], stages[-1]['object_feats']
    return stages
