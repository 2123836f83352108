"""Names of low-rank updates in a state dict, and how they are added to the weights (LoRA, arXiv 2106.09685)."""
from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

DOWN, UP = 'lora_down', 'lora_up'


def is_lora(name: str) -> bool:
    """Whether an entry is a factor of an update."""
    return name.endswith((f'.{DOWN}', f'.{UP}'))


def has_lora(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has low-rank updates."""
    return any(map(is_lora, state))


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a plain state dict with the updates added to the weights. Without updates, it is the same.

    Entries that are not part of a complete update stay.
    """
    plain = dict(state)
    for name in state:
        layer, _, leaf = name.rpartition('.')
        weight, up, down = (state.get(f'{layer}.{part}') for part in ('weight', UP, DOWN))
        if leaf != DOWN or weight is None or up is None or down is None or not _fit(weight, up, down):
            continue
        plain[f'{layer}.weight'] = weight + up @ down
        del plain[f'{layer}.{UP}'], plain[name]
    return plain


def _fit(weight: Tensor, up: Tensor, down: Tensor) -> bool:
    return (weight.ndim == up.ndim == down.ndim == 2 and up.shape[1] == down.shape[0]
            and weight.shape == (up.shape[0], down.shape[1]))
