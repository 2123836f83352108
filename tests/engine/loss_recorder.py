"""A hook for the test of several processes: each process writes its losses to a file of its own."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from sparse_rcnn_mm.registry import HOOKS


@HOOKS.register_module()
class LossRecorder(Hook):

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        losses = {name: float(value.detach()) for name, value in outputs.items()}
        with Path(runner.work_dir, f'losses_{get_rank()}.jsonl').open('a') as file:
            file.write(json.dumps(losses) + '\n')
