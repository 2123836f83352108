"""A dumped case as things to compare: the stored numbers, and the inputs they were made from."""
from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_rcnn_mm.models.structures import GroundTruth
from tests.kit import ROOT
from tests.kit.comparison import Table, largest

from . import rule

DATA = ROOT / 'tests' / 'data' / 'successors'


class Dump(dict[str, np.ndarray]):
    """The arrays of a case by key."""

    def __init__(self, case: str) -> None:
        with np.load(DATA / f'{case}.npz') as arrays:
            super().__init__(arrays.items())
        self.case, self.meta = case, json.loads(str(self['meta']))
        self.config: dict[str, Any] = self.meta.get('config', {})
        self.seed: str = self.config.get('seed', '')

    def state(self) -> dict[str, Tensor]:
        """The weights, by the names of the method's own code; checked against the stored sums."""
        shapes = (ast.literal_eval(str(shape)) for shape in self['state_shapes'])
        state = {str(name): rule.fill(self.seed, str(name), shape, smaller=not self.case.startswith('ddq'))
                 for name, shape in zip(self['state_keys'], shapes, strict=True)}
        sums = [value.astype(np.float64).sum() for value in state.values()]
        np.testing.assert_allclose(sums, self['state_sum'], rtol=1e-9, atol=1e-9)
        return {name: torch.from_numpy(value) for name, value in state.items()}

    def feats(self, dtype: torch.dtype) -> list[Tensor]:
        """The feature maps, which ask for gradients."""
        maps = rule.features(self.seed, len(self.config['images']), self.config['width'], self.config['pad'],
                             self.config['strides'])
        np.testing.assert_allclose([one.astype(np.float64).sum() for one in maps], self['feat_sum'], rtol=1e-6)
        return [torch.from_numpy(one).to(dtype).requires_grad_() for one in maps]

    def img_whwh(self, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[(w, h, w, h)] for h, w in self.config['images']], dtype=dtype)

    def ground_truth(self, dtype: torch.dtype) -> GroundTruth:
        count = len(self.config['images'])
        boxes = [torch.from_numpy(self[f'gt_boxes{image}']).to(dtype).reshape(-1, 4) for image in range(count)]
        labels = [torch.from_numpy(self[f'gt_classes{image}']).long() for image in range(count)]
        counts = [len(one) for one in boxes]
        image = torch.tensor([i for i, number in enumerate(counts) for _ in range(number)], dtype=torch.long)
        return GroundTruth(torch.cat(boxes), torch.cat(labels), image, counts, self.img_whwh(dtype))


@cache
def load(case: str) -> Dump:
    return Dump(case)


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def beside_peak(ours: Tensor, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    return largest(array(ours), wanted) / float(np.abs(wanted).max(initial=1e-30))


def relative(ours: float, wanted: float) -> float:
    return abs(ours - wanted) / max(abs(wanted), 1e-3)


def samples(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that were dumped of an array."""
    flat = x.reshape(-1)
    return flat[:64], flat[np.unique(np.linspace(0, len(flat) - 1, 64).astype(np.int64))]


def compare_gradients(table: Table, dump: Dump, parameters: dict[str, nn.Parameter], tolerance: float) -> None:
    """All parameters by norm and largest number, some by values; relative to the parameter's largest number.

    Where the true gradient is zero or rounding noise, relative to the largest of all.
    """
    overall = float(dump['grad_peaks'].max())
    peaks: dict[str, float] = {}
    for name, norm, peak in zip(dump['grad_names'].tolist(), dump['grad_norms'], dump['grad_peaks'], strict=True):
        gradient = parameters[name].grad
        if peak < 0:
            assert gradient is None, f'{name} should get no gradient'
            continue
        peaks[name] = overall if name in dump.meta['noise_gradients'] else float(peak)
        assert gradient is not None, f'{name} should get a gradient'
        size = np.sqrt(gradient.numel())
        table.add('gradients, largest number', abs(gradient.abs().max().item() - peak) / peaks[name], tolerance)
        table.add('gradients, norm', abs(gradient.norm().item() - norm) / (peaks[name] * size), tolerance)
    for index, name in enumerate(dump['sel_names'].tolist()):
        first, strided = samples(array(parameters[name].grad))
        table.add('gradients, values', largest(first, dump[f'grad{index}_first']) / peaks[name], tolerance)
        table.add('gradients, values', largest(strided, dump[f'grad{index}_strided']) / peaks[name], tolerance)


def compare_feature_gradients(table: Table, dump: Dump, feats: list[Tensor], tolerance: float) -> None:
    for level, feat in enumerate(feats):
        peak = np.abs(dump[f'featgrad{level}_strided']).max()
        first, strided = samples(array(feat.grad))
        table.add('gradients of features', largest(first, dump[f'featgrad{level}_first']) / peak, tolerance)
        table.add('gradients of features', largest(strided, dump[f'featgrad{level}_strided']) / peak, tolerance)
        table.add('gradients of features', beside_peak(feat.grad.sum(dim=(2, 3)), dump[f'featgrad{level}_chsum']),
                  tolerance)
