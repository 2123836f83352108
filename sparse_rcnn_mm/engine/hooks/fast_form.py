"""Tests with the fast form of the model."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.engine.backend_model import BackendModel
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.tta import TTA, AugmentedBackend
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.registry import HOOKS


@HOOKS.register_module()
class FastFormHook(Hook):
    """Replaces the model by its fast form during a test. Models of other packages are not changed.

    Args:
        precision, compile: arguments of `fast_form`.
        tta: the settings of a `TTA`, for test-time augmentation. The test pipeline must be that of the `TTA`, too.
    """

    priority = 'LOWEST'  # after hooks that change the weights before a test, such as mmengine's EMAHook

    def __init__(self, precision: str = 'fp32', compile: bool = False, tta: Mapping[str, Any] | None = None) -> None:
        self.precision = precision
        self.compile = compile
        self.tta = tta and TTA(**tta)
        self._model: Any = None

    def before_test_epoch(self, runner: Any) -> None:
        """Replace the model by its fast form."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if isinstance(model, SparseRCNN):
            fast = fast_form(model, self.precision, self.compile)
            self._model = runner.model
            runner.model = BackendModel(AugmentedBackend(fast, self.tta)) if self.tta else fast
        elif self.tta:
            raise UserError('test-time augmentation is for the detectors of this package, not for a '
                            f'{type(model).__name__}')

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Put the original model back."""
        if self._model is not None:
            runner.model, self._model = self._model, None
