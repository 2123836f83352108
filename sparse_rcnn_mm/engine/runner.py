"""mmengine's Runner, with errors a user can act on."""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from sparse_rcnn_mm.acceleration.training import fast_training
from sparse_rcnn_mm.checkpoints import load_contents, read_checkpoint
from sparse_rcnn_mm.downloads import DownloadError
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import mark

# Said by mmdet at every start, for every box at an edge and with `with_cp`; a user can do nothing about any.
warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
warnings.filterwarnings('ignore', message='torch.utils.checkpoint: the use_reentrant parameter')
warnings.filterwarnings('ignore', message='Warning: The (polygon|bbox|text|circle) is out of bounds')


class Runner(MMEngineRunner):
    """Runner that loads checkpoints strictly and safely, and never trains over an earlier training's checkpoints."""

    def train(self) -> nn.Module:
        """Train, and save what was trained where an error or Ctrl-C stops it between two checkpoints.

        Raises:
            UserError: the work dir holds an earlier training, or the data or the losses are bad.
        """
        saved = sorted(Path(self.work_dir).glob('*.pth'))
        if saved and not self._resume:
            raise UserError(f'{saved[-1]} is of an earlier training: go on from it with --resume, or give another '
                            '--work-dir, or delete it')
        mark(self.work_dir)  # never read as training data
        try:
            return super().train()
        except (UserError, KeyboardInterrupt):
            self._save_interrupted()
            raise

    def _save_interrupted(self) -> None:
        # Several processes cannot be relied on to stop together, so only a single one can save.
        if self.distributed or not self.iter or not all(p.isfinite().all() for p in self.model.parameters()):
            return
        name = f'iter_{self.iter}.pth'
        self.save_checkpoint(self.work_dir, name, by_epoch=False)
        Path(self.work_dir, 'last_checkpoint').write_text(str(Path(self.work_dir, name)))
        self.logger.info(f'training stopped after iteration {self.iter} and was saved; go on with --resume')

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

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = True,
                        revise_keys: Any = ()) -> dict[str, Any]:
        """Load the model's weights from `filename`, and return the checkpoint.

        All of them must fit, unless the config says `load_partial=True`; whatever `strict` and `revise_keys` say.

        Raises:
            UserError: the file is missing or unsafe, or does not fit the model.
        """
        checkpoint = read_checkpoint(filename, map_location=map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        report = load_contents(self.model, checkpoint, filename, partial=self.cfg.get('load_partial', False))
        self._has_loaded = True
        self.logger.info(f'{filename}: {report}')
        return checkpoint
