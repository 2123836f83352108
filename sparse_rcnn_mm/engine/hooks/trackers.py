"""Sends the curves of a training to an experiment tracker."""
from __future__ import annotations

from importlib.util import find_spec

from mmengine.config import Config

from sparse_rcnn_mm.errors import UserError

_BACKENDS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend', 'mlflow': 'MLflowVisBackend'}
TRACKERS = tuple(_BACKENDS)


def log_to(cfg: Config, tracker: str | None) -> None:
    """Add a tracker to the config's visualizer. The default is TensorBoard if it is installed.

    Raises:
        UserError: the tracker's package is not installed.
    """
    if tracker is None:
        if not find_spec('tensorboard'):
            return
        tracker = 'tensorboard'
    elif not find_spec(tracker):
        raise UserError(f'--log-to {tracker} needs the package {tracker}: pip install {tracker}')
    backends = cfg.visualizer.setdefault('vis_backends', [])
    if _BACKENDS[tracker] not in [backend.get('type') for backend in backends]:
        backends.append(dict(type=_BACKENDS[tracker]))
