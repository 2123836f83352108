"""The detector with masks: images -> stages -> losses, or predictions with bitmaps."""
from __future__ import annotations

from typing import cast

import numpy as np
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS

from ..sparse_rcnn import SparseRCNN, collect_ground_truth, sizes_of_images
from .pasting import paste_masks
from .structures import MaskedDetections, MaskedGroundTruth


@MODELS.register_module()
class QueryInst(SparseRCNN):
    """Instances as Queries (arXiv 2105.01928): `SparseRCNN` whose parts also pass on masks.

    Args:
        roi_head: a `MaskedRoIHead`.
        criterion: `criterion(stages, gt, proposals) -> dict of losses`, where `gt` is a `MaskedGroundTruth`.
        postprocessor: `postprocessor(last_stage) -> MaskedDetections`.
        backbone, neck, rpn_head, data_preprocessor, init_cfg: as in `SparseRCNN`.
    """

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the losses of `criterion`."""
        proposals, stages = self.run_stages(batch_inputs, batch_data_samples)
        if not all('masks' in sample.gt_instances for sample in batch_data_samples):
            raise UserError('QueryInst learns from masks, but the training pipeline loads none: add '
                            "dict(type='LoadMasks') after LoadAnnotations in train_dataloader.dataset.pipeline")
        bitmaps = [np.asarray(sample.gt_instances.masks.masks) for sample in batch_data_samples]
        height, width = batch_inputs.shape[2:]
        gt = MaskedGroundTruth(*collect_ground_truth(batch_inputs, batch_data_samples), bitmaps, (height, width))
        return self.criterion(stages, gt, proposals)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Return data samples with `pred_instances` (bboxes, scores, labels, masks), best first.

        Boxes are as in the plain detector. Masks are (n, height, width) bool, on the host, in the same image size.
        """
        img_whwh = sizes_of_images(batch_inputs, batch_data_samples)
        out_whwh = sizes_of_images(batch_inputs, batch_data_samples, 'ori_shape') if rescale else img_whwh
        found = cast(MaskedDetections, self.detect(batch_inputs, img_whwh, out_whwh))
        mask_boxes = found.mask_boxes * (out_whwh / img_whwh)
        solid = (found.boxes[..., 2:] > found.boxes[..., :2]).all(-1)
        instances = []
        for i, kept in enumerate(solid):
            width, height = (int(side) for side in out_whwh[i, 0, :2])
            bitmaps = paste_masks(found.masks[i, kept], mask_boxes[i, kept], height, width)
            instances.append(InstanceData(bboxes=found.boxes[i, kept], scores=found.scores[i, kept],
                                          labels=found.labels[i, kept], masks=bitmaps))
        return self.add_pred_to_datasample(batch_data_samples, instances)
