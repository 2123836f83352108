"""Options for fine-tuning any backbone: frozen stages, and learning rates that fall from stage to stage."""
from __future__ import annotations

from typing import Any, cast

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparse_rcnn_mm.backbones.stages import stages_of
from sparse_rcnn_mm.checkpoints import unwrapped
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


def freeze_stages(backbone: nn.Module, number: int) -> int:
    """Freeze the first stages of any backbone, with the statistics of their batch norms. Returns how many numbers.

    Raises:
        UserError: the backbone has fewer stages.
    """
    stages = stages_of(backbone)
    count = max(stages.values()) + 1
    if type(number) is not int or not 0 <= number <= count:
        raise UserError(f'frozen_stages is {number!r}, but the backbone has {count} stages: it is a number from 0 to '
                        f'{count}')
    frozen = {name for name, stage in stages.items() if stage < number}
    for name, parameter in backbone.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for path, module in backbone.named_modules():
        if isinstance(module, _BatchNorm) and any(f'{path}.{name}' in frozen for name, _ in module.named_parameters()):
            module.register_forward_pre_hook(_stay_in_eval)
    return sum(parameter.numel() for name, parameter in backbone.named_parameters() if name in frozen)


def _stay_in_eval(module: nn.Module, inputs: Any) -> None:
    module.eval()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate by `layer_decay` for each stage from the head to the image (BEiT, arXiv 2106.08254).

    With four stages: the last stage trains with layer_decay times the learning rate, the first stage and the stem with
    layer_decay ** 4 times. Everything else trains with the learning rate itself. Other entries of `paramwise_cfg` have
    their usual effect. For any backbone.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict) -> None:
        others = dict(paramwise_cfg)
        self.decay = others.pop('layer_decay')
        if not isinstance(self.decay, (int, float)) or not 0 < self.decay <= 1:
            raise UserError(f'layer_decay is {self.decay!r}: it is a number above 0 and up to 1, such as 0.7')
        super().__init__(optim_wrapper_cfg, others)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer, with one parameter group for each combination of settings, highest rate first."""
        module = unwrapped(model)
        single: list[dict[str, Any]] = []
        if self.paramwise_cfg:
            self.add_params(single, module)
        else:
            single = [{'params': [parameter]} for parameter in module.parameters() if parameter.requires_grad]
        scales = self._scales(module)
        groups: dict[tuple, dict[str, Any]] = {}
        for group in single:
            parameter, = group['params']
            rate = cast(float, group.get('lr', self.base_lr)) * scales.get(id(parameter), 1.)
            settings = {**group, 'lr': rate, 'params': ()}
            groups.setdefault(tuple(sorted(settings.items())), {**settings, 'params': []})['params'].append(parameter)
        ordered = sorted(groups.values(), key=lambda group: -group['lr'])
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': ordered})
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **self.optim_wrapper_cfg},
                                    default_args=dict(optimizer=optimizer))

    def _scales(self, model: nn.Module) -> dict[int, float]:
        stages = stages_of(model.backbone)  # type: ignore[arg-type]
        count = max(stages.values()) + 1
        parameters = dict(model.backbone.named_parameters())  # type: ignore[union-attr]
        return {id(parameters[name]): self.decay ** (count - stage) for name, stage in stages.items()}
