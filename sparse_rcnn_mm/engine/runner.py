"""mmengine's Runner with strict loading, exact resuming, safe stops, and clear errors."""
from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.dist import all_reduce, is_distributed, master_only
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from sparse_rcnn_mm.acceleration.training import fast_training
from sparse_rcnn_mm.checkpoints import (
    check_resumable,
    checked_initial_weights,
    load_contents,
    not_finite,
    read_checkpoint,
    unwrapped,
    write_checkpoint,
    write_text,
)
from sparse_rcnn_mm.errors import NotFinite, UserError
from sparse_rcnn_mm.own_outputs import mark

from .divergence import LossTerms, learning_rate_options
from .fine_tuning import freeze_stages
from .hooks.checkpoint import EMAHook
from .lora import add_lora, start_lora
from .meeting import met
from .optim_wrappers import AmpOptimWrapper, CPUAmpOptimWrapper
from .restarts import earlier_checkpoints, note_launch, refuse_earlier_training, was_restarted
from .resuming import check_classes, complete_one_cycle, contents_to_save, find_start, resume_training, whole
from .stopping import Stopped, StopSignals

# Warnings that a user can do nothing about: at every start, for `with_cp`, and for boxes at the image border.
warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
warnings.filterwarnings('ignore', message='torch.utils.checkpoint: the use_reentrant parameter')
warnings.filterwarnings('ignore', message='Warning: The (polygon|bbox|text|circle) is out of bounds')


class Runner(MMEngineRunner):
    """Loads checkpoints strictly and safely, never loses one, and resumes exactly where training stopped."""

    stop_signals = StopSignals()  # `train` replaces it
    loss_terms = LossTerms()
    _start: tuple[Path, dict[str, Any]] | None = None  # the checkpoint to resume
    _saved: tuple[int, Path] | None = None  # iteration and file of the last checkpoint that can be resumed

    def setup_env(self, env_cfg: dict) -> None:
        """Like mmengine's, but processes that torchrun restarted connect to each other only."""
        settings = env_cfg.get('dist_cfg', {})
        if self.launcher == 'pytorch' and not is_distributed() and not {'init_method', 'init_backend'} & set(settings):
            env_cfg = {**env_cfg, 'dist_cfg': {**settings, **met()}}
        super().setup_env(env_cfg)

    def train(self) -> nn.Module:
        """Train. If a signal or an error stops it between two checkpoints, a checkpoint is saved.

        SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR1 stop it after the current iteration, with exit status
        128 + number.

        Raises:
            UserError: the work dir contains an earlier training, the data is bad, or a loss is not finite.
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
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f'the disk of {self.work_dir} is full: make room and use --resume') from error
            if self.distributed and _lost_connection(error):
                raise UserError('another process ended or cannot be reached, so this one stopped too: see the message '
                                'of the process that ended first') from error
            raise

    def stop_if_asked(self, together: bool = True) -> None:
        """Raise `Stopped` if a stop signal arrived.

        Args:
            together: stop all processes if one got the signal. All of them must call this at the same place.
        """
        number = torch.tensor(self.stop_signals.pending)
        if together:
            all_reduce(number, 'max')
        if number:
            raise Stopped(int(number))

    def _find_start(self) -> None:
        """Read the checkpoint to resume, if any. Must run before the data is built, whose order depends on its seed."""
        hooks = self.cfg.get('default_hooks')
        if earlier_checkpoints(self.work_dir, hooks) and was_restarted(self.work_dir):
            self.logger.info(f'the launcher restarted this training: it resumes in {self.work_dir}')
            self._resume, self._load_from = True, None
        if not self._resume:
            refuse_earlier_training(self.work_dir, hooks)
        mark(self.work_dir)  # so that it is never read as training data
        note_launch(self.work_dir)
        if self._resume:
            self._start = find_start(self)
            if self._start is not None:
                self._randomness_cfg.update(seed=self._start[1]['meta'].get('seed', self.seed))
                self.set_randomness(**self._randomness_cfg)

    def _save_stopped(self) -> str:
        """Save a checkpoint, if it is necessary and possible. Returns what was done, for the message."""
        saved_at, last = self._saved or (0, None)
        if not self.iter or saved_at == self.iter:
            return f'continue from {last} with --resume' if last else 'nothing was trained yet'
        if not getattr(self.optim_wrapper, 'settled', False):
            return f'in the middle of the next one; continue from {last or "the start"} with --resume'
        for hook in self.hooks:
            if isinstance(hook, EMAHook):
                hook.leave_validation()
        earlier = self.message_hub.runtime_info.get('stopped_ckpt')
        name = f'iter_{self.iter}.pth'
        self.message_hub.update_info('stopped_ckpt', name)
        if earlier:
            outdated = self.message_hub.runtime_info.get('outdated_ckpts', [])
            self.message_hub.update_info('outdated_ckpts', [*outdated, earlier])
        try:
            self.save_checkpoint(self.work_dir, name, meta=dict(epoch=self.epoch, iter=self.iter))
        except UserError as error:
            return f'it was not saved, because {error}'
        if self.rank == 0:
            write_text(str(Path(self.work_dir, name)), Path(self.work_dir, 'last_checkpoint'))
            if earlier:
                Path(self.work_dir, earlier).unlink(missing_ok=True)
        return f'saved as {Path(self.work_dir, name)}; continue with --resume'

    def _after_divergence(self, error: NotFinite) -> str:
        """Say what to do. If a checkpoint contains the weights whose predictions are not finite, it is renamed."""
        saved_at, last = self._saved or (0, None)
        steps = getattr(self.optim_wrapper, '_accumulative_counts', 1)
        done = 'no bad weights were saved'
        if (last is not None and last.parent == Path(self.work_dir) and saved_at // steps == self.iter // steps
                and error.predictions and not isinstance(self.optim_wrapper, AmpOptimWrapper)):
            aside = last.with_suffix('.diverged')
            if self.rank == 0 and last.is_file():
                os.replace(last, aside)
            done = f'{last.name} holds these weights and was renamed to {aside.name}'
        amp = isinstance(self.optim_wrapper, (AmpOptimWrapper, CPUAmpOptimWrapper))
        return (f'{done}: continue with --resume and a lower learning rate (--cfg-options '
                f'{learning_rate_options(self.cfg)}){", or without --amp" * amp}, and check the boxes of these images')

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True,
                        meta: dict[str, Any] | None = None, by_epoch: bool = True,
                        backend_args: dict | None = None) -> None:
        """Write a checkpoint to a local folder like mmengine, but atomically, and only with finite weights.

        Args: arguments that are not listed have no effect.
            out_dir, filename: the folder and the file. An existing file is replaced when the new one is complete.
            save_optimizer: also write what resuming needs.
            save_param_scheduler: also write the schedule.
            meta: contains `epoch` and `iter`, the numbers of completed epochs and iterations.

        Raises:
            UserError: the file cannot be written, or weights or optimizer state are not finite.
        """
        checkpoint = contents_to_save(self, meta or {}, save_optimizer, save_param_scheduler)
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        bad = not_finite({key: value for key, value in checkpoint.items() if key not in ('meta', 'message_hub')})
        path = Path(out_dir, filename)
        if bad:
            raise NotFinite(f'{path} was not written, because {len(bad)} of its tensors are not finite (first '
                            f'{bad[0]}), at iteration {self.iter + 1}')
        write_checkpoint(checkpoint, path)
        if save_optimizer:
            self._saved = checkpoint['meta']['iter'], path

    def dump_config(self) -> None:
        """Write the config to the work dir, unless it was read from a checkpoint, which already contains it."""
        if self.cfg.filename:
            super().dump_config()

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build it under the name of this run. With the config's name, it could log to an earlier run's folder."""
        if isinstance(visualizer, dict):
            visualizer = {key: value for key, value in visualizer.items() if key != 'name'}
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Replace the model by its fast form, unless the config has `fast_training=False`, and wrap it."""
        if self._train_loop is not None:
            self._restrict(model)
        if self._train_loop is not None and self.cfg.get('fast_training', True):
            model = fast_training(model)
            self.logger.info('training uses the fast form of the model (fast_training=False turns it off)')
        return super().wrap_model(model_wrapper_cfg, model)

    def _restrict(self, model: nn.Module) -> None:
        """Train only a part of the model, if the config has `lora` or `frozen_stages`."""
        if lora := self.cfg.get('lora'):
            names = add_lora(model, **lora)
            self.logger.info(f'LoRA: {len(names)} linear layers train updates of rank {lora["rank"]}; '
                             f'{_trained(model) / 1e6:.2f} M of {_numbers(model) / 1e6:.2f} M numbers are trained')
        if number := self.cfg.get('frozen_stages'):
            frozen = freeze_stages(cast(nn.Module, model.backbone), number)
            self.logger.info(f'the first {number} stages of the backbone are frozen: {frozen / 1e6:.2f} M numbers')

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Like mmengine's, but `layer_decay` of the config lowers the learning rates of the backbone's stages."""
        if isinstance(optim_wrapper, dict) and (decay := self.cfg.get('layer_decay')) is not None:
            others = optim_wrapper.get('paramwise_cfg') or {}
            optim_wrapper = {**optim_wrapper, 'constructor': 'LayerDecayConstructor',
                             'paramwise_cfg': {**others, 'layer_decay': decay}}
        return super().build_optim_wrapper(optim_wrapper)

    def _init_model_weights(self) -> None:
        if self._start is None:  # otherwise all weights come from the checkpoint that is resumed
            with checked_initial_weights(self.model):
                super()._init_model_weights()
        start_lora(unwrapped(self.model))

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """Like mmengine's, but starting workers does not change the global random state."""
        loader = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        # Starting workers draws a random number. It must not change the global state, which resuming reproduces.
        loader.generator = torch.Generator().manual_seed(seed or 0)
        return loader

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Like mmengine's, but a one-cycle schedule without a maximum uses the optimizer's learning rate.

        Raises:
            UserError: the settings of a schedule are invalid, or it is shorter than the training.
        """
        for settings in scheduler if isinstance(scheduler, list) else [scheduler]:
            if isinstance(settings, dict) and str(settings.get('type')).startswith('OneCycle'):
                rates = [group['lr'] for group in self.optim_wrapper.param_groups]
                settings.setdefault('eta_max', rates if len(set(rates)) > 1 else rates[0])
                complete_one_cycle(settings, self.max_epochs if settings.get('by_epoch', True) else self.max_iters,
                                   len(self.train_dataloader))
        try:
            return super().build_param_scheduler(scheduler)
        except (ValueError, AssertionError) as error:
            raise UserError(f'param_scheduler of the config cannot be used: {error}') from error

    def load_or_resume(self) -> None:
        """Load or resume the checkpoint that the config names."""
        if self._start is not None:
            self.resume(str(self._start[0]))
        elif not self._resume:
            super().load_or_resume()

    def resume(self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True,
               map_location: Any = 'default') -> None:
        """Resume from a checkpoint with everything in it. Arguments after the first have no effect.

        Raises:
            UserError: the file is missing, damaged or unsafe, does not fit the model, or cannot be resumed.
        """
        contents = self._start[1] if self._start is not None else read_checkpoint(filename)
        self._start = None
        check_resumable(contents, filename)
        check_classes(self, contents, filename)
        self._load(contents, filename)
        with whole(filename):
            resume_training(self, contents)
        self._saved = self.iter, Path(filename)

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = True,
                        revise_keys: Any = ()) -> dict[str, Any]:
        """Load the model's weights from `filename`, and return the checkpoint.

        All weights must fit, unless the config has `load_partial=True`. `strict` and `revise_keys` have no effect.

        Raises:
            UserError: the file is missing or unsafe, or does not fit the model.
        """
        checkpoint = read_checkpoint(filename, map_location=map_location)
        self._load(checkpoint, filename)
        return checkpoint

    def _load(self, checkpoint: dict[str, Any], filename: str) -> None:
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        report = load_contents(self.model, checkpoint, filename, partial=self.cfg.get('load_partial', False))
        if not self._resume:
            for hook in self.hooks:
                if isinstance(hook, EMAHook):
                    hook.start_again()
        self._has_loaded = True
        self.logger.info(f'{filename}: {report}')


def _numbers(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _lost_connection(error: Exception) -> bool:
    """Whether an error means a lost connection between processes. gloo's errors have no type of their own."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ('gloo', 'NCCL', 'Connection closed')))
