"""Training and validation loops that can stop after any iteration and resume there.

They replace mmengine's loops of the same names.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.runner import loops
from torch import nn
from torch.utils.data import DataLoader

from sparse_rcnn_mm.acceleration.memory import keep_memory
from sparse_rcnn_mm.checkpoints import unwrapped
from sparse_rcnn_mm.errors import NotFinite
from sparse_rcnn_mm.registry import LOOPS

from .data_stream import SeededBatches, seeded_loader
from .divergence import explain
from .ground_truth import check_ground_truth


class _TrainLoop:
    """Base of both training loops.

    Attributes:
        validated: the iteration of the last completed validation.
    """

    runner: Any
    dataloader: DataLoader
    validated = 0
    _endless: bool
    _iter: int

    def __init__(self, runner: Any, dataloader: DataLoader | dict[str, Any], **settings: Any) -> None:
        if isinstance(dataloader, dict):
            # the samplers of all processes need the same seed, even if `diff_rank_seed` added the rank to it
            seed = runner.seed - (runner.rank if runner._randomness_cfg.get('diff_rank_seed') else 0)
            dataloader = seeded_loader(runner.build_dataloader(dataloader, seed), seed, self._endless)
        super().__init__(runner, dataloader, **settings)  # type: ignore[call-arg]

    def _enter_data(self, skipped: int) -> None:
        """Start the next pass over the data at the current iteration."""
        if isinstance(self.dataloader.batch_sampler, SeededBatches):
            self.dataloader.batch_sampler.enter(self._iter, skipped)

    def _batches(self) -> Iterator[Any]:
        """The remaining batches. Between two batches the training state is consistent, so training may stop there."""
        batches = iter(self.dataloader)
        while True:
            self.runner.optim_wrapper.settled = True
            self.runner.stop_if_asked()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception:
                self.runner.stop_if_asked(together=False)  # the signal may have ended the workers first
                raise
            yield batch

    def _validate_if_due(self, trained: int, last: int) -> None:
        """Validate after `trained` of `last` iterations or epochs, unless it was already done before resuming."""
        if (self.runner.val_loop is not None and trained >= self.val_begin and self.validated < self._iter  # type: ignore
                and (trained % self.val_interval == 0 or trained == last)):  # type: ignore[attr-defined]
            self.runner.val_loop.run()
        self.validated = self._iter

    def run(self) -> nn.Module:
        with self.runner.stop_signals:
            return self._run()

    def _run(self) -> nn.Module:
        raise NotImplementedError

    def _train_step(self, step: Any, *args: Any) -> None:
        """Check the ground truth, then call `step(*args)`; the last argument is the batch."""
        head = getattr(unwrapped(self.runner.model), 'roi_head', None)
        check_ground_truth(args[-1], getattr(head, 'num_classes', None))
        try:
            with keep_memory(self.runner.model):
                step(*args)
        except NotFinite as error:
            raise explain(error, self.runner, args[-1]) from error


@LOOPS.register_module()
class IterBasedTrainLoop(_TrainLoop, loops.IterBasedTrainLoop):
    """Training for a number of iterations."""

    _endless = True

    def _run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._iter:
            self._validate_if_due(self._iter, self._max_iters)
        self.dataloader_iterator = None  # mmengine 0.10.7 has already started its workers
        self._enter_data(self._iter)
        batches = self._batches()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self._train_step(self.run_iter, next(batches))
            self._decide_current_val_interval()
            self.runner.optim_wrapper.settled = True
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


@LOOPS.register_module()
class EpochBasedTrainLoop(_TrainLoop, loops.EpochBasedTrainLoop):
    """Training for a number of epochs. It can resume in the middle of an epoch."""

    _endless = False

    def _run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        if self._epoch and self._iter == self._epoch * len(self.dataloader):
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for the rest of the current epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self._enter_data(done)
        for index, batch in enumerate(self._batches(), done):
            self._train_step(self.run_iter, index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.runner.optim_wrapper.settled = True


@LOOPS.register_module()
class ValLoop(loops.ValLoop):
    """Validation that can stop between two batches."""

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Validate on one batch, unless a stop signal arrived."""
        with keep_memory(self.runner.model):
            super().run_iter(idx, data_batch)
        # not together: processes may have different numbers of batches, and no weights change here
        self.runner.stop_if_asked(together=False)
