"""Computes the training loss on the validation data."""
from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.structures import InstanceData

from sparse_rcnn_mm.checkpoints import unwrapped
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import HOOKS


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Adds `val_loss` and its parts (`val_s0.loss_cls`, ...) to the metrics of every validation.

    A loss is averaged over batches, weighted by their numbers of ground truths, as if all validation images were one
    batch. Images are not augmented, and the model is in evaluation mode. Each batch needs a second forward pass.

    The test pipeline must load annotations after resizing, as all configs here do: boxes are scaled to the resized
    image.
    """

    priority = 'HIGHEST'  # adds to the metrics before the other hooks read them

    def before_val_epoch(self, runner: Any) -> None:
        """Check that all processes have the same number of batches, since they compute the loss of a batch together.

        Raises:
            UserError: the numbers differ.
        """
        self._sums: dict[str, Any] = defaultdict(float)
        self._weight = torch.zeros(())
        batches = torch.tensor([len(runner.val_dataloader), -len(runner.val_dataloader)])
        all_reduce(batches, 'max')
        if batches.sum():
            raise UserError('the validation loss needs equally many batches in all processes: set '
                            'val_dataloader.sampler.round_up=True, or remove ValidationLossHook')

    @torch.no_grad()
    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Compute the losses of a batch."""
        model: Any = unwrapped(runner.model)
        batch = model.data_preprocessor(data_batch)
        samples = [_resized(sample) for sample in batch['data_samples']]
        weight = torch.tensor(float(sum(len(sample.gt_instances) for sample in samples)))
        all_reduce(weight, 'mean')
        weight = weight.clamp(min=1)
        _, losses = model.parse_losses(model.loss(batch['inputs'], samples))
        for name, loss in losses.items():
            self._sums[name] += loss.detach().cpu() * weight
        self._weight = self._weight + weight

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Average over batches and processes."""
        assert metrics is not None
        for name, loss in self._sums.items():
            mean = loss / self._weight
            all_reduce(mean, 'mean')
            metrics[f'val_{name}'] = float(mean)


def _resized(sample: DetDataSample) -> DetDataSample:
    """The sample with its ground truth in pixels of the resized image, clipped, without empty boxes."""
    boxes = sample.gt_instances.bboxes
    whwh, original = (boxes.new_tensor(shape[1::-1]).repeat(2) for shape in (sample.img_shape, sample.ori_shape))
    boxes = torch.minimum((boxes * (whwh / original)).clamp(min=0), whwh)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    resized = sample.new()
    resized.gt_instances = InstanceData(bboxes=boxes[solid], labels=sample.gt_instances.labels[solid])
    return resized
