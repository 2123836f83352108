"""The detector: images -> stages -> losses, predictions or raw outputs."""
from __future__ import annotations

from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from sparse_rcnn_mm.registry import MODELS, Part, build

from .structures import Detections, GroundTruth, Proposals, StageOutput


@MODELS.register_module()
class SparseRCNN(BaseDetector):
    """Sparse R-CNN: End-to-End Object Detection with Learnable Proposals (arXiv 2011.12450).

    `forward(inputs, data_samples, mode)` takes the padded, normalized batch (B, 3, H, W). Mode 'loss' returns the
    losses of `criterion`, 'predict' the data samples with `pred_instances`, and 'tensor', which needs no data samples,
    a list of (logits, boxes) by stage. All three run the network by the same method.

    Args: each part is a config or a built module.
        backbone, neck: mmdet modules that compute the feature levels.
        rpn_head: `rpn_head(feats, img_whwh) -> Proposals`.
        roi_head: `roi_head(feats, proposals) -> list[StageOutput]`; attribute `num_classes`.
        criterion: `criterion(stages, gt, proposals) -> dict of losses`.
        postprocessor: `postprocessor(last_stage) -> Detections`.
        data_preprocessor, init_cfg: as in mmdet.
    """

    def __init__(self, *, backbone: Part, neck: Part, rpn_head: Part, roi_head: Part, criterion: Part,
                 postprocessor: Part, data_preprocessor: dict[str, Any] | None = None, init_cfg: Any = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = build(MODELS, backbone)
        self.neck = build(MODELS, neck)
        self.rpn_head = build(MODELS, rpn_head)
        self.roi_head = build(MODELS, roi_head)
        self.criterion = build(MODELS, criterion)
        self.postprocessor = build(MODELS, postprocessor)

    def extract_feat(self, batch_inputs: Tensor) -> list[Tensor]:
        """Compute the feature levels of images (B, 3, H, W)."""
        return self.neck(self.backbone(batch_inputs))

    def refine(self, images: Tensor, img_whwh: Tensor) -> tuple[Proposals, list[StageOutput]]:
        """Run the network, in all modes, on padded, normalized images (B, 3, H, W) with the sizes (B, 1, 4)."""
        feats = self.extract_feat(images)
        proposals = self.rpn_head(feats, img_whwh)
        return proposals, self.roi_head(feats, proposals)

    def run_stages(self, batch_inputs: Tensor, data_samples: SampleList | None) -> tuple[Proposals, list[StageOutput]]:
        """`refine` with the sizes from the data samples. Without data samples, images have no padding."""
        return self.refine(batch_inputs, sizes_of_images(batch_inputs, data_samples))

    def detect(self, images: Tensor, img_whwh: Tensor, out_whwh: Tensor) -> Detections:
        """Detect objects, with only tensors as input and output, so that this can be exported.

        Args:
            images: (B, 3, H, W), normalized and padded.
            img_whwh, out_whwh: (B, 1, 4), the sizes before padding, and the sizes to scale and clip the boxes to.
        """
        found = self.postprocessor(self.refine(images, img_whwh)[1][-1])
        boxes = found.boxes * (out_whwh / img_whwh)
        return found._replace(boxes=torch.minimum(boxes.clamp(min=0), out_whwh))

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> list[tuple]:
        return [(stage.logits, stage.boxes) for stage in self.run_stages(batch_inputs, batch_data_samples)[1]]

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the losses of `criterion`."""
        proposals, stages = self.run_stages(batch_inputs, batch_data_samples)
        return self.criterion(stages, collect_ground_truth(batch_inputs, batch_data_samples), proposals)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Return the data samples with `pred_instances` (bboxes, scores, labels), best first.

        Boxes are in pixels of the original image if `rescale`, else of the resized image. They are clipped to it, and
        empty ones are dropped, as in `detector_postprocess` of detectron2.
        """
        img_whwh = sizes_of_images(batch_inputs, batch_data_samples)
        out_whwh = sizes_of_images(batch_inputs, batch_data_samples, 'ori_shape') if rescale else img_whwh
        found = self.detect(batch_inputs, img_whwh, out_whwh)
        solid = (found.boxes[..., 2:] > found.boxes[..., :2]).all(-1)
        instances = [InstanceData(bboxes=found.boxes[i, kept], scores=found.scores[i, kept],
                                  labels=found.labels[i, kept]) for i, kept in enumerate(solid)]
        return self.add_pred_to_datasample(batch_data_samples, instances)


def sizes_of_images(batch_inputs: Tensor, data_samples: SampleList | None, key: str = 'img_shape') -> Tensor:
    """`img_whwh` (B, 1, 4), from `key` (height, width, ...) of the data samples, or without them from the batch."""
    batch, _, height, width = batch_inputs.shape
    sizes = [(height, width)] * batch if data_samples is None else [s.metainfo[key][:2] for s in data_samples]
    whwh = torch.tensor([[(w, h, w, h)] for h, w in sizes], dtype=torch.float32)
    return whwh.to(batch_inputs.device, non_blocking=True)


def collect_ground_truth(batch_inputs: Tensor, data_samples: SampleList) -> GroundTruth:
    """Collect the ground truths of all data samples in one flat list."""
    instances = [sample.gt_instances for sample in data_samples]
    counts = [len(instance) for instance in instances]
    image = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    return GroundTruth(boxes=torch.cat([instance.bboxes for instance in instances]),
                       labels=torch.cat([instance.labels for instance in instances]),
                       image=image.to(batch_inputs.device, non_blocking=True),
                       counts=counts,
                       img_whwh=sizes_of_images(batch_inputs, data_samples))
