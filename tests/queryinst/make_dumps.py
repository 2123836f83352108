"""Write `tests/data/queryinst/*.npz`: the numbers of mmdet's own QueryInst, in float64.

It needs mmdet with the compiled operations of mmcv, and nothing of this package; no test runs it. From the root of the
repository: `PYTHONPATH=. python tests/queryinst/make_dumps.py`
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import mmdet
import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads import fcn_mask_head
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from tests.queryinst import rule

SHIPPED = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'queryinst' / 'queryinst_r50_fpn_1x_coco.py'
MASKS = 6  # proposals of which the masks of all classes are stored
FOLDER = Path(__file__).parents[1] / 'data' / 'queryinst'


def build(case: str) -> torch.nn.Module:
    """mmdet's model from the config that it ships, in the sizes of the case, in float64."""
    spec, model = rule.CASES[case], Config.fromfile(SHIPPED).model
    model.backbone.update(depth=18, base_channels=8, frozen_stages=-1, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=spec.channels)
    model.rpn_head.update(num_proposals=spec.num_proposals, proposal_feature_channel=spec.channels)
    head = model.roi_head
    head.update(num_stages=spec.num_stages, stage_loss_weights=[1] * spec.num_stages,
                proposal_feature_channel=spec.channels, bbox_head=head.bbox_head[:spec.num_stages],
                mask_head=head.mask_head[:spec.num_stages])
    head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = spec.channels
    for box, mask in zip(head.bbox_head, head.mask_head, strict=True):
        box.update(num_classes=spec.num_classes, num_heads=spec.num_heads, in_channels=spec.channels,
                   feedforward_channels=spec.ffn_channels)
        mask.update(num_classes=spec.num_classes, in_channels=spec.channels, conv_out_channels=spec.channels)
        for conv in (box.dynamic_conv_cfg, mask.dynamic_conv_cfg):
            conv.update(in_channels=spec.channels, out_channels=spec.channels, feat_channels=spec.dynamic_channels)
    model.train_cfg.rcnn = model.train_cfg.rcnn[:spec.num_stages]
    model.test_cfg.rcnn.max_per_img = spec.num_proposals
    detector = MODELS.build(model)
    detector.load_state_dict({name: torch.from_numpy(rule.fill(case, name, value.shape))
                              for name, value in detector.state_dict().items()})
    return detector.double()


def batch(case: str, model: torch.nn.Module) -> tuple[torch.Tensor, list[DetDataSample]]:
    """The preprocessed batch, in float64."""
    inputs, found = [], []
    for index, (height, width) in enumerate(rule.CASES[case].images):
        boxes, labels, bitmaps = rule.ground_truth(case, index)
        out_height, out_width = rule.output_size(case, index)
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(out_height, out_width),
                                             scale_factor=(width / out_width, height / out_height)))
        sample.gt_instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels),
                                           masks=BitmapMasks(bitmaps, height, width))
        inputs.append(torch.from_numpy(rule.image(case, index)[::-1].copy()))  # mmdet swaps the channels
        found.append(sample)
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=found), training=True)
    for sample in data['data_samples']:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.double()
    return data['inputs'].double(), data['data_samples']


@contextmanager
def recorded(owner: Any, method: str, into: list) -> Iterator[None]:
    """Append every result of a method to a list."""
    original = getattr(owner, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        into.append(original(*args, **kwargs))
        return into[-1]

    with mock.patch.object(owner, method, call):
        yield


def of_labels(masks: torch.Tensor, box: dict[str, Any]) -> torch.Tensor:
    """Of each matched proposal the mask (M, 28, 28) of its ground truth's class."""
    labels = torch.cat([result.pos_gt_labels for result in box['sampling_results']])
    return masks[torch.arange(len(labels)), labels].float()


def training(model: torch.nn.Module, data: tuple[torch.Tensor, list[DetDataSample]], dump: dict[str, Any]) -> None:
    """Losses and everything on the way to them, gradients, and one step."""
    boxes: list[dict] = []
    masks: list[dict] = []
    head = model.roi_head
    model.train()
    with recorded(head, 'bbox_loss', boxes), recorded(head, 'mask_loss', masks):
        losses = {key: value for key, value in model.loss(*data).items() if 'loss' in key}
    for stage, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
        matched = np.full((len(data[0]), box['cls_score'].shape[1]), -1)
        for row, result in zip(matched, box['sampling_results'], strict=True):
            row[result.pos_inds.numpy()] = result.pos_assigned_gt_inds.numpy()
        dump.update({f's{stage}.logits': box['cls_score'], f's{stage}.boxes': box['decoded_bboxes'],
                     f's{stage}.matched': matched, f's{stage}.masks': of_labels(mask['mask_preds'], box),
                     f's{stage}.targets': np.packbits(mask['mask_targets'].numpy().astype(bool))})
    total = sum(losses.values())
    dump.update(loss_keys=list(losses), losses=torch.stack(list(losses.values())), total=total)
    parameters = dict(model.named_parameters())
    total.backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    dump.update(grad_names=list(gradients), grad_norms=[gradient.norm() for gradient in gradients.values()],
                grad_peaks=[gradient.abs().max() for gradient in gradients.values()])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    dump['grad_values'] = np.stack([rule.samples(gradients[name]) for name in rule.selected(parameters)])
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    dump['step_values'] = np.stack([rule.samples(parameters[name].detach()) for name in rule.selected(parameters)])
    with torch.no_grad():
        dump['total_after'] = sum(value for key, value in model.loss(*data).items() if 'loss' in key)


@torch.no_grad()
def prediction(model: torch.nn.Module, data: tuple[torch.Tensor, list[DetDataSample]], dump: dict[str, Any]) -> None:
    """Detections, best first, and masks of the last stage, of all classes."""
    masks: list[dict] = []
    model.eval()
    # mmdet pastes in float32 only.
    paste = fcn_mask_head._do_paste_mask
    in_float32 = mock.patch.object(fcn_mask_head, '_do_paste_mask', lambda masks, boxes, *args, **kwargs: paste(
        masks.float(), boxes.float(), *args, **kwargs))
    with recorded(model.roi_head, '_mask_forward', masks), in_float32:
        found = model.predict(*data, rescale=True)
    dump['masks'] = masks[-1]['mask_preds'].flatten(0, 1)[:MASKS].float()
    for index, sample in enumerate(found):
        best = sample.pred_instances[sample.pred_instances.scores.argsort(descending=True)]
        dump.update({f'det{index}_boxes': best.bboxes, f'det{index}_scores': best.scores,
                     f'det{index}_labels': best.labels, f'det{index}_bitmaps': np.packbits(best.masks.numpy())})


def main() -> None:
    init_default_scope('mmdet')
    FOLDER.mkdir(exist_ok=True)
    for case in rule.CASES:
        model = build(case)
        state = model.state_dict()
        dump: dict[str, Any] = dict(names=list(state), shapes=[str(tuple(value.shape)) for value in state.values()],
                                    sums=[value.double().sum() for value in state.values()])
        data = batch(case, model)
        prediction(model, data, dump)
        training(model, batch(case, model), dump)
        np.savez_compressed(FOLDER / f'{case}.npz', **{
            key: np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
            for key, value in dump.items()})
        print(case, dict(zip(dump['loss_keys'], dump['losses'].tolist(), strict=True)))


if __name__ == '__main__':
    main()
