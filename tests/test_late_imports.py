"""mmdet's modules import large packages late, and work as if they had imported them at once."""
from __future__ import annotations

import gc
import importlib
import subprocess
import sys

import mmdet.models.dense_heads.paa_head as paa_head
import mmdet.models.task_modules.tracking.interpolation as interpolation
import mmdet.utils.mot_error_visualize as mot_errors
import numpy as np
import pytest
from mmdet.models.task_modules.assigners import hungarian_assigner

from sparse_rcnn_mm import late_imports
from tests.kit import ROOT


def printed(code: str) -> list[str]:
    """What a new process prints, line by line."""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()


def test_a_detector_needs_none_of_them() -> None:
    """All that is printed is what the code prints: mmdet's note about a package that it lacks is not."""
    code = ('import sys; import sparse_rcnn_mm.inference.detector, mmdet.models, mmdet.datasets; '
            'print([name for name in ("sklearn", "scipy", "numba", "imgaug", "matplotlib.pyplot") '
            'if name in sys.modules])')
    assert printed(code) == ['[]']


def test_a_program_that_only_detects_leaves_out_sharding() -> None:
    code = """
import sys, torch
from sparse_rcnn_mm.late_imports import quick_start
with quick_start():
    import sparse_rcnn_mm.inference.detector, mmengine._strategy
from mmengine.model import MMFullyShardedDataParallel, is_model_wrapper
from mmengine.optim import ZeroRedundancyOptimizer
print("torch.distributed.fsdp" in sys.modules, is_model_wrapper(torch.nn.Linear(1, 1)))
for kind in (MMFullyShardedDataParallel, mmengine._strategy.FSDPStrategy, ZeroRedundancyOptimizer):
    try:
        kind([], lr=1)
    except NotImplementedError as error:
        print(error)
"""
    assert printed(code) == ['False False', *(
        f'{name} is for training: a program that only detects leaves it out'
        for name in ('MMFullyShardedDataParallel', 'FSDPStrategy', 'ZeroRedundancyOptimizer'))]


def test_what_was_left_out_beside_the_class_is_imported_when_asked_for() -> None:
    code = """
import sys
from sparse_rcnn_mm.late_imports import quick_start
with quick_start():
    import sparse_rcnn_mm.inference.detector
from mmengine._strategy.fsdp import FSDP, FSDPStrategy
print(FSDP.__module__.startswith("torch.distributed.fsdp"))
"""
    assert printed(code) == ['True']


def test_sharding_that_is_there_stays() -> None:
    modules = {name: importlib.import_module(name) for name in late_imports.SHARDING}
    with late_imports.quick_start():
        assert not gc.isenabled()
    assert gc.isenabled()
    for name, of_class in late_imports.SHARDING.items():
        assert sys.modules[name] is modules[name]
        assert not issubclass(getattr(modules[name], of_class), late_imports._LeftOut)


def test_functions_classes_and_modules_work_in_mmdet() -> None:
    """Functions by `from`, classes by `from`, and modules, also their values."""
    rows, columns = hungarian_assigner.linear_sum_assignment(np.array([[3., 1.], [1., 3.]]))
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]
    mixture = paa_head.skm.GaussianMixture(2, random_state=0).fit([[0.], [0.1], [5.], [5.1]])
    assert sorted(mixture.means_.ravel().round(3).tolist()) == [0.05, 5.05]
    process = interpolation.GPR(interpolation.RBF(1., 'fixed')).fit([[0.], [1.]], [2., 4.])
    np.testing.assert_allclose(process.predict([[1.]]), [4.], atol=1e-6)
    assert isinstance(process, interpolation.GPR)
    assert not isinstance(mixture, interpolation.GPR)
    assert mot_errors.plt.rcParams['figure.dpi'] > 0


def test_others_get_the_packages_themselves() -> None:
    import sklearn.gaussian_process

    assert isinstance(sklearn.gaussian_process.GaussianProcessRegressor, type)
    assert sys.modules['sklearn.gaussian_process'] is sklearn.gaussian_process


def test_a_missing_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmdet's modules ask by ImportError whether a package is there."""
    monkeypatch.setattr(late_imports, 'LATE', ('no_such_package',))
    for names in ((), ('Thing',)):
        with pytest.raises(ModuleNotFoundError, match='no_such_package'):
            late_imports._import('no_such_package.inner', {}, {}, names)
