"""A detector in a form that can be exported: standard operations, and no sizes that tracing would make constant."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmdet.models.backbones.swin import ShiftWindowMSA
from mmdet.models.data_preprocessors import DetDataPreprocessor
from torch import Tensor, nn

from sparse_rcnn_mm.acceleration.prediction import fast_roi_head, fold_batch_norms
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import DynamicConv, RoIExtractor, SparseRCNN, SparseRoIHead
from sparse_rcnn_mm.models.queryinst.dynamic_mask_head import DynamicMaskConv
from sparse_rcnn_mm.models.queryinst.structures import MaskedDetections
from sparse_rcnn_mm.models.roi_extractor import Pyramid
from sparse_rcnn_mm.runtime.engines import MASKS, OUTPUTS

from .open_sizes import ExportedAveragePool, ExportedShiftedWindows


class ExportedNetwork(nn.Module):
    """The exported graph, from pixels to detections.

    Args:
        model: the detector. It is copied and changed for export.
        swap: whether the network takes the channels in BGR order.
    """
    outputs: tuple[str, ...] = OUTPUTS

    def __init__(self, model: SparseRCNN, swap: bool) -> None:
        super().__init__()
        preprocessor = model.data_preprocessor
        if type(preprocessor) is not DetDataPreprocessor or preprocessor.batch_augments or preprocessor.pad_value:
            raise UserError('only a DetDataPreprocessor that pads with 0 and has no batch_augments can be exported')
        self.swap, self.divisor = swap, preprocessor.pad_size_divisor
        normalizes = preprocessor._enable_normalize
        self.register_buffer('mean', preprocessor.mean.clone() if normalizes else torch.zeros(3, 1, 1))
        self.register_buffer('std', preprocessor.std.clone() if normalizes else torch.ones(3, 1, 1))
        self.model = export_form(model)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Detect objects in a batch.

        Args:
            images: (B, 3, H, W) uint8 RGB. Each image is in the upper left part; the rest is ignored.
            sizes: (B, 2) long, the height and width of that part.

        Returns:
            Boxes (B, k, 4) in pixels of `images`, scores (B, k) and labels (B, k), best first.
        """
        whwh = whwh_of(sizes)
        found = self.model.detect(self.normalize(images, sizes), whwh, whwh)
        return found.boxes, found.scores, found.labels

    def normalize(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Normalize the images, set everything beyond `sizes` to 0, and pad at the right and the bottom."""
        x = images.flip(1) if self.swap else images
        x = (x.to(self.mean.dtype) - self.mean) / self.std
        height, width = images.shape[2:]
        inside_y = torch.arange(height, device=x.device) < sizes[:, :1]
        inside_x = torch.arange(width, device=x.device) < sizes[:, 1:]
        x = x.masked_fill(~(inside_y[:, None, :, None] & inside_x[:, None, None, :]), 0)
        return F.pad(x, (0, -width % self.divisor, 0, -height % self.divisor))


class StagedNetwork(ExportedNetwork):
    """Also returns the boxes of the detections at the start and after every stage: (B, stages + 1, k, 4), clipped."""
    outputs = (*OUTPUTS, 'stage_boxes')

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Detect objects in a batch."""
        whwh = whwh_of(sizes)
        proposals, stages = self.model.refine(self.normalize(images, sizes), whwh)
        found = self.model.postprocessor(stages[-1])
        chosen = found.proposals[..., None].expand(-1, -1, 4)
        boxes = torch.stack([boxes.gather(1, chosen) for boxes in (proposals.boxes, *(one.boxes for one in stages))], 1)
        boxes = torch.minimum(boxes.clamp(min=0), whwh[:, None])
        return boxes[:, -1], found.scores, found.labels, boxes


class MaskedNetwork(ExportedNetwork):
    """Also returns the masks (B, k, 2P, 2P) of the detections, as probabilities, and the boxes (B, k, 4) they fill."""
    outputs = (*OUTPUTS, *MASKS)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Detect objects in a batch."""
        whwh = whwh_of(sizes)
        found = cast(MaskedDetections, self.model.detect(self.normalize(images, sizes), whwh, whwh))
        return found.boxes, found.scores, found.labels, found.masks, found.mask_boxes


def whwh_of(sizes: Tensor) -> Tensor:
    """Heights and widths (B, 2) as (B, 1, 4)."""
    height_width = sizes.to(torch.float32)
    return torch.cat([height_width, height_width], dim=1).flip(1)[:, None]


@torch.no_grad()
def export_form(model: SparseRCNN) -> SparseRCNN:
    """Copy `model` for prediction with standard operations only: the same detections up to float32 rounding.

    As in `fast_form`, batch norms are folded into convolutions, and what does not affect the detections is removed.
    """
    form = copy.deepcopy(model).eval().requires_grad_(False)
    image = torch.rand(1, 3, 128, 128, device=next(form.parameters()).device)
    form.backbone, form.neck = fold_batch_norms([form.backbone, form.neck], image)
    if isinstance(form.roi_head, SparseRoIHead):
        form.roi_head = fast_roi_head(form, image)
    use_forms(form)
    return form


def use_forms(net: nn.Module) -> None:
    """Replace the parts of `net` that cannot be exported by parts that can, in place."""
    for module in net.modules():
        if type(module) in _FORMS:
            module.__class__ = _FORMS[type(module)]


class _DynamicConv(DynamicConv):
    """Dynamic convolution with a plain linear layer instead of oneDNN's."""

    def kernels(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        kernel_in, kernel_out = self.dynamic_layer(queries).chunk(2, dim=1)
        return (kernel_in.reshape(-1, self.in_channels, self.feat_channels),
                kernel_out.reshape(-1, self.feat_channels, self.in_channels))


class _RoIExtractor(RoIExtractor):
    """A RoI extractor that builds a `_Pyramid`."""

    def forward(self, feats: Sequence[Tensor]) -> Pyramid:
        return _Pyramid(feats, self)


class _Pyramid(Pyramid):
    """A pyramid whose sizes may be symbolic."""

    def __init__(self, feats: Sequence[Tensor], extractor: RoIExtractor) -> None:
        self.feats, self.strides, self._extractor = feats, extractor.strides, extractor
        self.rows = _Rows(torch.cat([feat.flatten(2).transpose(1, 2) for feat in feats], dim=1).flatten(0, 1))
        starts: list[Any] = [0]
        for feat in feats:
            starts.append(starts[-1] + feat.shape[2] * feat.shape[3])
        self.batch, self.rows_per_image = (  # type: ignore[assignment]
            torch.scalar_tensor(number, dtype=torch.long)
            for number in (feats[0].shape[0], starts.pop()))
        self.level_start = torch.stack([torch.scalar_tensor(start, dtype=torch.long) for start in starts])
        self.level_size = torch.stack([torch.scalar_tensor(feat.shape[axis], dtype=torch.float32)
                                       for feat in feats for axis in (3, 2)]).view(-1, 2)
        self.level_stride = torch.tensor(self.strides, dtype=torch.float32)


class _Rows:
    """`WeightedRows` as a batched matrix product, the fastest way to express it in ONNX."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def sums(self, index: Tensor, weight: Tensor) -> Tensor:
        return torch.matmul(weight[:, None], F.embedding(index, self.rows))[:, 0]


class _DynamicMaskConv(DynamicMaskConv):
    """The same for masks."""
    kernels = _DynamicConv.kernels  # type: ignore[assignment]


_FORMS: dict[type, type] = {DynamicConv: _DynamicConv, DynamicMaskConv: _DynamicMaskConv, RoIExtractor: _RoIExtractor,
                            ShiftWindowMSA: ExportedShiftedWindows, nn.AdaptiveAvgPool2d: ExportedAveragePool}
