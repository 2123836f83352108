"""Compares the network's input with that of the weights: mean, standard deviation and order of the channels."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from sparse_rcnn_mm.checkpoints import Metadata, published_config, read_checkpoint
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.datasets import LoadRGBImage
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import SCOPE, TRANSFORMS, innermost_dataset

from .measurements import Inputs, Normalization

IMAGENET = Normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 'RGB')
# Part of the URL of a backbone's weights, and the normalization that its authors used.
_BACKBONES = {
    'download.pytorch.org': IMAGENET, 'torchvision://': IMAGENET,
    'detectron2/resnet50_caffe': Normalization([103.53, 116.28, 123.675], [1., 1., 1.], 'BGR'),
    'detectron2/resnet101_caffe': Normalization([103.53, 116.28, 123.675], [1., 1., 1.], 'BGR'),
}


def of_config(cfg: Mapping[str, Any], loader: str, scope: str = SCOPE) -> Normalization | None:
    """Read the normalization from a model's config. `loader` is its loading transform. None without mean or std."""
    settings = cfg.get('data_preprocessor') or {}
    if settings.get('mean') is None or settings.get('std') is None:
        return None
    swaps = bool(settings.get('bgr_to_rgb')) or bool(settings.get('rgb_to_bgr'))
    order = 'RGB' if _reads_rgb(loader, scope) != swaps else 'BGR'
    return Normalization([float(value) for value in settings['mean']], [float(value) for value in settings['std']],
                         order)


def _reads_rgb(loader: str, scope: str) -> bool:
    if scope != SCOPE and '.' not in loader:
        return loader == 'LoadRGBImage'
    with DefaultScope.overwrite_default_scope(SCOPE):
        kind = TRANSFORMS.get(loader)
    return isinstance(kind, type) and issubclass(kind, LoadRGBImage)


def used_by(cfg: Config) -> Normalization | None:
    """Return the normalization that a config uses in training."""
    return of_config(cfg.model, innermost_dataset(cfg.train_dataloader.dataset).pipeline[0].type)


def wanted_by(cfg: Config, load_from: str) -> tuple[Normalization | None, str]:
    """Return the normalization that the initial weights were trained with, and where it comes from."""
    if load_from:
        return _of_checkpoint(load_from), load_from
    init_cfg = cfg.model.backbone.get('init_cfg') or {}
    address = str(init_cfg.get('checkpoint', '')) if isinstance(init_cfg, Mapping) else ''
    return next((one for part, one in _BACKBONES.items() if part in address), None), address


def _of_checkpoint(path: str) -> Normalization | None:
    if name := published_config(path):
        return used_by(config_from_file(name))
    try:
        values = Metadata.of(read_checkpoint(path), path).config().values
        dataset = innermost_dataset((values.get('test_dataloader') or {}).get('dataset') or {})
        return of_config(values['model'], str(dataset['pipeline'][0]['type']), str(values.get('default_scope', SCOPE)))
    except (UserError, KeyError, TypeError, AttributeError, IndexError):
        return None  # unknown: only the measured distances remain


def measure_inputs(model: Any, batches: Sequence[dict], used: Normalization, wanted: Normalization | None,
                   by: str) -> Inputs:
    """Measure the normalized pixels without the padding, and compare with the first batch norm's statistics if any."""
    normalized, sizes = [], []
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        normalized += list(data['inputs'])
        sizes += [sample.img_shape[:2] for sample in data['data_samples']]
    pixels = torch.cat([one[:, :height, :width].flatten(1) for one, (height, width) in
                        zip(normalized, sizes, strict=True)], 1)
    return Inputs(used, wanted, by, pixels.mean(1).tolist(), pixels.std(1).tolist(),
                  _distances(model.backbone, normalized, sizes, used))


@torch.no_grad()
def _distances(backbone: nn.Module, images: list[Tensor], sizes: list[tuple[int, int]],
               used: Normalization) -> dict[str, float]:
    """Distance of the first batch norm's input from its running statistics, for each normalization."""
    norm = next((one for one in backbone.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)), None)
    if norm is None or norm.running_mean is None or not norm.running_mean.any():
        return {}
    mean, std = (torch.tensor(values, device=images[0].device)[:, None, None] for values in (used.mean, used.std))
    raw = [image[:, :height, :width] * std + mean for image, (height, width) in zip(images, sizes, strict=True)]
    ways = {'as configured': (used.mean, used.std, False), 'channels swapped': (used.mean, used.std, True),
            'ImageNet': (IMAGENET.mean, IMAGENET.std, used.order != 'RGB'),
            '0 to 1': ([0., 0., 0.], [255., 255., 255.], False)}
    return {name: _distance(backbone, norm, raw, *way) for name, way in ways.items()}


def _distance(backbone: nn.Module, norm: Any, images: list[Tensor], mean: list[float], std: list[float],
              swap: bool) -> float:
    """Median over channels of |difference of means| / std + |log of the ratio of stds|."""
    seen: list[Tensor] = []
    hook = norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].transpose(0, 1).flatten(1)))
    training = backbone.training
    backbone.eval()
    try:
        for image in images:
            shift, scale = (torch.tensor(values, device=image.device)[:, None, None] for values in (mean, std))
            backbone((((image.flip(0) if swap else image) - shift) / scale)[None])
    finally:
        hook.remove()
        backbone.train(training)
    values = torch.cat(seen, 1)
    deviation = norm.running_var.clamp(min=1e-12).sqrt()
    apart = (values.mean(1) - norm.running_mean).abs() / deviation
    wider = (values.std(1).clamp(min=1e-6) / deviation).log().abs()
    return float(np.median((apart + wider).cpu().numpy()))
