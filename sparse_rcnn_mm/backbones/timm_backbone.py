"""Networks of timm as backbones (https://github.com/huggingface/pytorch-image-models)."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from sparse_rcnn_mm.downloads import DownloadError
from sparse_rcnn_mm.errors import UserError, did_you_mean
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.torchvision_ops import ensure_torchvision_imports

OWN_WEIGHTS = 'timm'  # as a checkpoint: those that timm fetches for the network
# What a network needs for images of any size; some know the first, others the second, most neither.
_ANY_SIZE: tuple[dict[str, Any], ...] = (dict(strict_img_size=False), dict(dynamic_img_size=True), {})


def import_timm() -> ModuleType:
    """The library, imported where it is needed.

    Raises:
        UserError: it is not there, or does not work.
    """
    ensure_torchvision_imports()
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbones of timm need the package timm ({error}): pip install 'timm>=1.0'") from error
    except RuntimeError as error:  # torchvision is made for one version of torch
        raise UserError(f'timm cannot be imported, as torchvision does not fit the installed torch ({error}): install '
                        f'the torchvision for torch {torch.__version__}') from error
    return timm


def create(model: str, **more: Any) -> Any:
    """A network that returns its feature maps, and has `feature_info`.

    Raises:
        UserError: timm has no network of this name, or it gives no feature maps.
    """
    timm = import_timm()
    if not timm.is_model(model):  # no address either, from which timm would fetch code or weights
        raise UserError(f'timm {timm.__version__} has no network {model!r}{did_you_mean(model, timm.list_models())}')
    for any_size in _ANY_SIZE:
        try:
            return timm.create_model(model, features_only=True, **any_size, **more)
        except TypeError as error:
            if any_size and next(iter(any_size)) in str(error):
                continue
            raise
        except (RuntimeError, AttributeError) as error:
            if 'pretrained' in more:  # it is the weights
                raise
            raise UserError(f'the network {model} of timm gives no feature maps ({error})') from error
    raise AssertionError('the last way has no arguments that could be unknown')


def levels_of(info: Any, model: str, strides: Sequence[int]) -> list[int]:
    """Which feature maps have these strides; of several with one stride, the last.

    Args:
        info: `feature_info` of a network.

    Raises:
        UserError: there is none of some stride.
    """
    found = list(info.reduction())
    missing = [stride for stride in strides if stride not in found]
    if missing:
        raise UserError(f'the network {model} of timm has feature maps of the strides '
                        f'{", ".join(map(str, dict.fromkeys(found)))}, and none of {missing[0]}')
    return [len(found) - 1 - found[::-1].index(stride) for stride in strides]


def timm_channels(model: str, strides: Sequence[int]) -> list[int]:
    """Channels of the feature maps of these strides, without making the weights."""
    with torch.device('meta'):
        info = create(model).feature_info
    return [info.channels()[level] for level in levels_of(info, model, strides)]


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A network of timm as a backbone; channels and strides are those that timm tells.

    Args:
        model: its name in timm, without a tag of weights, such as convnext_tiny.
        strides: of the feature maps to return.
        frozen_stages: how many of these are not trained, with everything before them; 0 for none.
        norm_eval: batch norms keep their statistics in training. With few images a GPU theirs are too noisy.
        drop_path_rate: of stochastic depth; None leaves it to timm.
        init_cfg: `dict(type='Pretrained', checkpoint=...)` with a file of a classifier of timm, or 'timm' for the
            weights that timm fetches, or 'timm://TAG' for those of a tag such as in12k_ft_in1k.

    Raises:
        UserError: timm is not there, has no such network, or it has no such feature maps.
    """

    def __init__(self, *, model: str, strides: Sequence[int] = (4, 8, 16, 32), frozen_stages: int = 0,
                 norm_eval: bool = True, drop_path_rate: float | None = None,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.model, self.norm_eval = model, norm_eval
        self._options = {} if drop_path_rate is None else dict(drop_path_rate=drop_path_rate)
        self.body = create(model, **self._options)
        self._info: Any = self.body.feature_info
        self.levels = levels_of(self._info, model, strides)
        self.channels = [self._info.channels()[level] for level in self.levels]
        self._channels_last = str(getattr(self.body, 'output_fmt', '')).endswith('NHWC')
        for parameter in self._until(frozen_stages):
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to feature maps (B, C, H / stride, W / stride)."""
        maps = self.body(x)
        return tuple(maps[level].permute(0, 3, 1, 2) if self._channels_last else maps[level] for level in self.levels)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Batch norms stay in eval mode with `norm_eval`."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load the weights of `init_cfg`; without them, timm has made random ones."""
        if self.init_cfg is None or self.is_init:
            return
        source = str(self.init_cfg['checkpoint'])
        name = f'{self.model}.{source.removeprefix("timm://")}' if source.startswith('timm://') else self.model
        local = {} if name != self.model or source == OWN_WEIGHTS else dict(pretrained_cfg_overlay=dict(file=source))
        self.body.load_state_dict(self._pretrained(name, source, local))
        self._is_init = True

    def _pretrained(self, name: str, source: str, local: dict[str, Any]) -> dict[str, Tensor]:
        try:
            return create(name, pretrained=True, **local, **self._options).state_dict()
        except UserError:
            raise
        except Exception as error:  # of the network, of its hub, or of the file
            reason = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
            if local:
                raise UserError(f'{source} holds no weights of the network {self.model} of timm ({reason})') from error
            raise DownloadError(f'timm cannot fetch the weights of {name} ({reason})', reason) from error

    def _until(self, stages: int) -> Iterator[nn.Parameter]:
        """The parameters of the first stages, which timm keeps in the order of the network."""
        if not stages:
            return
        module = self._info.module_name(self.levels[stages - 1])
        names = [name for name, _ in self.body.named_parameters()]
        within = [place for place, name in enumerate(names)
                  if name.startswith((f'{module}.', f'{module.replace(".", "_")}.'))]
        if not within:
            raise UserError(f'frozen_stages={stages}: the network {self.model} of timm does not tell its stages')
        for _, parameter in list(self.body.named_parameters())[:within[-1] + 1]:
            yield parameter
