"""timm models as backbones (https://github.com/huggingface/pytorch-image-models)."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from sparse_rcnn_mm.checkpoints import compare, read_checkpoint, state_dict_of
from sparse_rcnn_mm.checkpoints.weights import local_checkpoint
from sparse_rcnn_mm.downloads import DownloadError
from sparse_rcnn_mm.errors import UserError, did_you_mean
from sparse_rcnn_mm.registry import MODELS, without_values
from sparse_rcnn_mm.torchvision_ops import ensure_torchvision_imports

OWN_WEIGHTS = 'timm'  # as `checkpoint`: timm's default weights for the model
# Arguments that some models need to accept images of any size. A model takes the first, the second, or neither.
_ANY_SIZE: tuple[dict[str, Any], ...] = (dict(strict_img_size=False), dict(dynamic_img_size=True), {})


def import_timm() -> ModuleType:
    """Import timm on first use.

    Raises:
        UserError: timm is not installed, or cannot be imported.
    """
    ensure_torchvision_imports()
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbones of timm need the package timm ({error}): pip install 'timm>=1.0'") from error
    except RuntimeError as error:  # each torchvision release works with one version of torch
        raise UserError(f'timm cannot be imported, because torchvision does not fit the installed torch ({error}): '
                        f'install the torchvision for torch {torch.__version__}') from error
    return timm


def create(model: str, **more: Any) -> Any:
    """Create a timm model that returns feature maps and has `feature_info`.

    Raises:
        UserError: timm has no model of this name, or the model cannot return feature maps.
    """
    timm = import_timm()
    if not timm.is_model(model):  # also rejects URLs, from which timm would download code or weights
        raise UserError(f'timm {timm.__version__} has no network {model!r}{did_you_mean(model, timm.list_models())}')
    for any_size in _ANY_SIZE:
        try:
            return timm.create_model(model, features_only=True, **any_size, **more)
        except TypeError as error:
            if any_size and next(iter(any_size)) in str(error):
                continue
            raise
        except (RuntimeError, AttributeError) as error:
            if 'pretrained' in more:  # the error is about the weights
                raise
            raise UserError(f'timm model {model} does not provide feature maps ({error})') from error
    raise AssertionError('the last way has no arguments that could be unknown')


def levels_of(info: Any, model: str, strides: Sequence[int]) -> list[int]:
    """Find the indices of the feature maps with these strides. Of several with the same stride, take the last.

    Args:
        info: the `feature_info` of a model.

    Raises:
        UserError: no feature map has one of the strides.
    """
    found = list(info.reduction())
    missing = [stride for stride in strides if stride not in found]
    if missing:
        raise UserError(f'the network {model} of timm has feature maps of the strides '
                        f'{", ".join(map(str, dict.fromkeys(found)))}, and none of {missing[0]}')
    return [len(found) - 1 - found[::-1].index(stride) for stride in strides]


def timm_channels(model: str, strides: Sequence[int]) -> list[int]:
    """Return the channels of the feature maps with these strides, without allocating weights."""
    with without_values():
        info = create(model).feature_info
    return [info.channels()[level] for level in levels_of(info, model, strides)]


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A timm model as a backbone, with channels and strides as reported by timm.

    Args:
        model: the timm name, without a weight tag, such as convnext_tiny.
        strides: the strides of the feature maps to return.
        frozen_stages: freeze this many of these levels, and everything before them. 0 freezes nothing.
        norm_eval: keep the running statistics of batch norms in training. With few images per GPU, batch statistics
            are too noisy.
        drop_path_rate: the rate of stochastic depth. None uses timm's default.
        init_cfg: `dict(type='Pretrained', checkpoint=...)`, where the checkpoint is the file of a timm classifier,
            'timm' for timm's default weights, or 'timm://TAG' for weights with a tag such as in12k_ft_in1k.

    Raises:
        UserError: timm is not installed or has no such model, or the model lacks a feature map.
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
        """Map images (B, 3, H, W) to feature maps (B, C, H / stride, W / stride)."""
        maps = self.body(x)
        return tuple(maps[level].permute(0, 3, 1, 2) if self._channels_last else maps[level] for level in self.levels)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set the training mode, but keep batch norms in eval mode with `norm_eval`."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load the weights of `init_cfg`. Without one, timm's random initialization stays."""
        if self.init_cfg is None or self.is_init:
            return
        source = str(self.init_cfg['checkpoint'])
        tagged = source.startswith('timm://')
        name = f'{self.model}.{source.removeprefix("timm://")}' if tagged else self.model
        if tagged or source == OWN_WEIGHTS:
            self.body.load_state_dict(self._pretrained(name, source, {}))
        else:
            self._load_file(source)
        self._is_init = True

    def _load_file(self, source: str) -> None:
        """Load a file that `sparse-rcnn convert` wrote, or the checkpoint of a classifier."""
        state = state_dict_of(read_checkpoint(source))  # timm would run code in some files
        if any(name.startswith('body.') for name in state):
            if not (report := compare(state, self.state_dict())).complete:
                raise UserError(f'{source} does not fit the network {self.model} of timm: {report.summary()}')
            self.load_state_dict(state)
        else:
            path = local_checkpoint(source)
            self.body.load_state_dict(self._pretrained(self.model, source, dict(
                pretrained_cfg_overlay=dict(file=str(path)))))

    def _pretrained(self, name: str, source: str, local: dict[str, Any]) -> dict[str, Tensor]:
        try:
            return create(name, pretrained=True, **local, **self._options).state_dict()
        except UserError:
            raise
        except Exception as error:  # from the network connection, the model hub or the file
            reason = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
            if local:
                raise UserError(f'{source} holds no weights of the network {self.model} of timm ({reason})') from error
            raise DownloadError(f'timm cannot fetch the weights of {name} ({reason})', reason) from error

    def _until(self, stages: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of the first stages. timm keeps them in the order of the network."""
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
