"""For the test of several processes: everything in float64, and a hook by which each process writes its losses.

In float64, because rounding is then too small to decide anything: in float32 AdamW moves a weight whose gradient is
rounding noise by the full learning rate, and proposals that hardly differ are matched one way or the other.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from sparse_rcnn_mm.registry import HOOKS

torch.set_default_dtype(torch.float64)


@HOOKS.register_module()
class LossRecorder(Hook):

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        assert all(value.dtype == torch.float64 for value in outputs.values())
        losses = {name: float(value.detach()) for name, value in outputs.items()}
        with Path(runner.work_dir, f'losses_{get_rank()}.jsonl').open('a') as file:
            file.write(json.dumps(losses) + '\n')
