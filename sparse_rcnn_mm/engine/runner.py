"""mmengine's Runner, with errors a user can act on."""
from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from sparse_rcnn_mm.acceleration.training import fast_training
from sparse_rcnn_mm.checkpoints import (
    check_resumable,
    load_contents,
    not_finite,
    read_checkpoint,
    unwrapped,
    write_checkpoint,
    write_text,
)
from sparse_rcnn_mm.downloads import DownloadError
from sparse_rcnn_mm.errors import NotFinite, UserError
from sparse_rcnn_mm.own_outputs import mark

from .divergence import LossTerms, learning_rate_options
from .hooks.checkpoint import EMAHook
from .optim_wrappers import AmpOptimWrapper
from .restarts import note_launch, was_restarted
from .resuming import complete_one_cycle, contents_to_save, find_start, resume_training
from .stopping import Stopped, StopSignals

# Said by mmdet at every start, for every box at an edge and with `with_cp`; a user can do nothing about any.
warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
warnings.filterwarnings('ignore', message='torch.utils.checkpoint: the use_reentrant parameter')
warnings.filterwarnings('ignore', message='Warning: The (polygon|bbox|text|circle) is out of bounds')


class Runner(MMEngineRunner):
    """Runner that loads checkpoints strictly and safely, loses none, and goes on exactly where a training stopped."""

    stop_signals = StopSignals()  # `train` has its own
    loss_terms = LossTerms()
    _start: tuple[Path, dict[str, Any]] | None = None  # the checkpoint to resume
    _saved: tuple[int, Path] | None = None  # iteration and file of the last one that can be resumed

    def train(self) -> nn.Module:
        """Train; save what was trained where a signal or an error stops it between two checkpoints.

        SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR1 stop it after the iteration, with the exit status 128 + number.

        Raises:
            UserError: the work dir holds an earlier training, or the data or the losses are bad.
        """
        self._find_start()
        self.stop_signals, self.loss_terms = StopSignals(), LossTerms()
        unwrapped(self.model).register_forward_hook(self.loss_terms)
        try:
            return super().train()
        except Stopped as stop:
            self.logger.info(f'{stop} stopped training after iteration {self.iter}: {self._save_stopped()}')
            raise SystemExit(stop.status) from None
        except NotFinite as error:
            raise NotFinite(f'{error}; {self._after_divergence(error)}') from error
        except Exception as error:
            if self.iter:
                self.logger.error(f'an error stopped training after iteration {self.iter}: {self._save_stopped()}')
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise UserError(f'the disk of {self.work_dir} is full: make room and go on with --resume') from error
            if self.distributed and _lost_connection(error):
                raise UserError('another process ended or cannot be reached, so this one stopped as well: the message '
                                'of the first that ended tells why') from error
            raise

    def stop_if_asked(self, together: bool = True) -> None:
        """Raise `Stopped` if a signal asked for it.

        Args:
            together: all processes call this at the same place, and all stop when one was asked.
        """
        number = torch.tensor(self.stop_signals.pending)
        if together:
            all_reduce(number, 'max')
        if number:
            raise Stopped(int(number))

    def _find_start(self) -> None:
        """Read the checkpoint to resume, if any, before data are built: its seed decides over their order."""
        saved = sorted(Path(self.work_dir).glob('*.pth'))
        if saved and was_restarted(self.work_dir):
            self.logger.info(f'the launcher started this training again: it goes on in {self.work_dir}')
            self._resume, self._load_from = True, None
        if saved and not self._resume:
            raise UserError(f'{saved[-1]} is of an earlier training: go on from it with --resume, or give another '
                            '--work-dir, or delete it')
        mark(self.work_dir)  # never read as training data
        note_launch(self.work_dir)
        if self._resume:
            self._start = find_start(self)
            if self._start is not None:
                self._randomness_cfg.update(seed=self._start[1]['meta'].get('seed', self.seed))
                self.set_randomness(**self._randomness_cfg)

    def _save_stopped(self) -> str:
        """Save what was trained, if that is not done and possible. Says what became of it."""
        saved_at, last = self._saved or (0, None)
        if not self.iter or saved_at == self.iter:
            return f'go on from {last} with --resume' if last else 'nothing was trained yet'
        if not getattr(self.optim_wrapper, 'settled', False):
            return f'that was in the middle of the next one; go on from {last or "the start"} with --resume'
        for hook in self.hooks:
            if isinstance(hook, EMAHook):
                hook.leave_validation()
        earlier = self.message_hub.runtime_info.get('stopped_ckpt')
        name = f'iter_{self.iter}.pth'
        self.message_hub.update_info('stopped_ckpt', name)
        try:
            self.save_checkpoint(self.work_dir, name, meta=dict(epoch=self.epoch, iter=self.iter))
        except UserError as error:
            return f'it was not saved, because {error}'
        if self.rank == 0:
            write_text(str(Path(self.work_dir, name)), Path(self.work_dir, 'last_checkpoint'))
            if earlier:
                Path(self.work_dir, earlier).unlink(missing_ok=True)
        return f'saved as {Path(self.work_dir, name)}; go on with --resume'

    def _after_divergence(self, error: NotFinite) -> str:
        """What to do about it. A checkpoint of the very weights whose predictions are not finite is set aside."""
        saved_at, last = self._saved or (0, None)
        steps = getattr(self.optim_wrapper, '_accumulative_counts', 1)
        done = 'nothing bad was saved'
        if (last is not None and last.parent == Path(self.work_dir) and saved_at // steps == self.iter // steps
                and error.predictions and not isinstance(self.optim_wrapper, AmpOptimWrapper)):
            aside = last.with_suffix('.diverged')
            if self.rank == 0 and last.is_file():
                os.replace(last, aside)
            done = f'{last.name} holds these weights and was renamed to {aside.name}'
        return (f'{done}: go on with --resume and a lower learning rate (--cfg-options '
                f'{learning_rate_options(self.cfg)}), or without --amp, and check the boxes of these images')

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True,
                        meta: dict[str, Any] | None = None, by_epoch: bool = True,
                        backend_args: dict | None = None) -> None:
        """Write a checkpoint into a local folder, as mmengine's method does: in one piece and with finite weights only.

        Args: those that are not listed have no effect.
            out_dir, filename: where to; a file there is replaced once the new one is whole.
            save_optimizer: write what resuming needs.
            save_param_scheduler: write the schedule, too.
            meta: holds `epoch` and `iter`, those that are done.

        Raises:
            UserError: it cannot be written, or weights or optimizer are not finite.
        """
        checkpoint = contents_to_save(self, meta or {}, save_optimizer, save_param_scheduler)
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        bad = not_finite({key: value for key, value in checkpoint.items() if key not in ('meta', 'message_hub')})
        path = Path(out_dir, filename)
        if bad:
            raise NotFinite(f'{path} was not written, because {len(bad)} tensors of it are not finite (first '
                            f'{bad[0]}), at iteration {self.iter + 1}')
        write_checkpoint(checkpoint, path)
        if save_optimizer:
            self._saved = checkpoint['meta']['iter'], path

    def dump_config(self) -> None:
        """Write the config into the work dir, unless it came out of a checkpoint, which has it."""
        if self.cfg.filename:
            super().dump_config()

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build it under a name of this run: one of the config's name would still log into an earlier run's folder."""
        if isinstance(visualizer, dict):
            visualizer = {key: value for key, value in visualizer.items() if key != 'name'}
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Take the fast form for training, unless the config says `fast_training=False`, and wrap it."""
        if self._train_loop is not None and self.cfg.get('fast_training', True):
            model = fast_training(model)
            self.logger.info('training uses the fast form of the model (fast_training=False turns it off)')
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        try:
            super()._init_model_weights()
        except DownloadError as error:
            init_cfg = self.cfg.model.backbone.init_cfg
            raise UserError(
                f'the pretrained weights {init_cfg.checkpoint} cannot be fetched ({error.reason}): download them '
                'elsewhere and pass --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train without, by '
                '--cfg-options model.backbone.init_cfg=None') from error

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        loader = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        # Starting workers draws a number. From here, not from the global state, which a resumed training has to repeat.
        loader.generator = torch.Generator().manual_seed(seed or 0)
        return loader

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """mmengine's method, where a one-cycle schedule leads up to the optimizer's learning rate if it names none.

        Raises:
            UserError: the settings of a schedule make no sense, or it is over before the training.
        """
        for settings in scheduler if isinstance(scheduler, list) else [scheduler]:
            if isinstance(settings, dict) and str(settings.get('type')).startswith('OneCycle'):
                settings.setdefault('eta_max', self.optim_wrapper.param_groups[0]['lr'])
                complete_one_cycle(settings, self.max_epochs if settings.get('by_epoch', True) else self.max_iters,
                                   len(self.train_dataloader))
        try:
            return super().build_param_scheduler(scheduler)
        except (ValueError, AssertionError) as error:
            raise UserError(f'param_scheduler of the config cannot be used: {error}') from error

    def load_or_resume(self) -> None:
        if self._start is not None:
            self.resume(str(self._start[0]))
        elif not self._resume:
            super().load_or_resume()

    def resume(self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True,
               map_location: Any = 'default') -> None:
        """Go on from a checkpoint, with all that is in it, whatever the arguments after the first say.

        Raises:
            UserError: the file is missing, damaged or unsafe, does not fit the model, or training cannot go on from it.
        """
        contents = self._start[1] if self._start is not None else read_checkpoint(filename)
        self._start = None
        check_resumable(contents, filename)
        self._load(contents, filename)
        resume_training(self, contents)
        self._saved = self.iter, Path(filename)

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = True,
                        revise_keys: Any = ()) -> dict[str, Any]:
        """Load the model's weights from `filename`, and return the checkpoint.

        All of them must fit, unless the config says `load_partial=True`; whatever `strict` and `revise_keys` say.

        Raises:
            UserError: the file is missing or unsafe, or does not fit the model.
        """
        checkpoint = read_checkpoint(filename, map_location=map_location)
        self._load(checkpoint, filename)
        return checkpoint

    def _load(self, checkpoint: dict[str, Any], filename: str) -> None:
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        report = load_contents(self.model, checkpoint, filename, partial=self.cfg.get('load_partial', False))
        self._has_loaded = True
        self.logger.info(f'{filename}: {report}')


def _lost_connection(error: Exception) -> bool:
    """Whether torch says that processes cannot talk to each other; gloo's errors have no type of their own."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ('gloo', 'NCCL', 'Connection closed')))
