"""The registry nodes of this package. Each is a child of mmdet's node of the same name.

A name that is not registered here is looked up in mmdet. That lookup does not import the modules in which mmdet
registers its classes, so each node lists these modules before its own. All 20 nodes exist because mmengine warns about
any that is missing.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mmdet.registry as mmdet
import torch
from mmengine.registry import Registry
from torch.overrides import TorchFunctionMode

SCOPE = 'sparse_rcnn_mm'

# A part of a model: its config, or the built module.
Part = Any


def build(node: Registry, part: Part, **defaults: Any) -> Any:
    """Build the config `part`, with `defaults` for missing keys. A part that is already built is returned as it is."""
    return node.build(part, default_args=defaults) if isinstance(part, dict) else part


@contextmanager
def without_values() -> Iterator[None]:
    """Modules built in this context have parameters with shapes but without values, so that they need no memory."""
    with torch.device('meta'), _ReadableNumbers():
        yield


class _ReadableNumbers(TorchFunctionMode):
    """Keeps `linspace` on the CPU, since constructors of transformers read rates of stochastic depth from it."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}) | ({'device': 'cpu'} if func is torch.linspace else {}))


class WithoutDrawing(TorchFunctionMode):
    """A context in which modules get zeros instead of random values: for models whose values are loaded later."""

    # Methods of tensors, and functions of torch.nn.init by which the others there draw.
    _drawing = ('kaiming_uniform_', 'normal_', 'uniform_')

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ not in self._drawing:
            return func(*args, **(kwargs or {}))
        with torch.no_grad():
            return (args[0] if args else kwargs['tensor']).zero_()


def innermost_dataset(dataset: Any) -> Any:
    """The config of the data set inside wrappers such as RepeatDataset."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=[*parent._locations, *locations])


# Detectors that build on Sparse R-CNN.
FAMILY = ('sparse_rcnn_mm.models.adamixer', 'sparse_rcnn_mm.models.sqr', 'sparse_rcnn_mm.models.ddq',
          'sparse_rcnn_mm.models.queryinst')

RUNNERS = _child(mmdet.RUNNERS)
RUNNER_CONSTRUCTORS = _child(mmdet.RUNNER_CONSTRUCTORS)
LOOPS = _child(mmdet.LOOPS, 'sparse_rcnn_mm.engine')
HOOKS = _child(mmdet.HOOKS, 'sparse_rcnn_mm.engine')
DATASETS = _child(mmdet.DATASETS, 'sparse_rcnn_mm.datasets.coco', 'sparse_rcnn_mm.datasets.digits',
                  'sparse_rcnn_mm.datasets.voc')
DATA_SAMPLERS = _child(mmdet.DATA_SAMPLERS, 'sparse_rcnn_mm.datasets.samplers')
TRANSFORMS = _child(mmdet.TRANSFORMS, 'sparse_rcnn_mm.datasets.transforms', 'sparse_rcnn_mm.datasets.masks',
                    'sparse_rcnn_mm.datasets.copy_paste')
MODELS = _child(mmdet.MODELS, 'sparse_rcnn_mm.models', *FAMILY, 'sparse_rcnn_mm.ops.naive_sync_batch_norm',
                'sparse_rcnn_mm.backbones')
MODEL_WRAPPERS = _child(mmdet.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = _child(mmdet.WEIGHT_INITIALIZERS)
OPTIMIZERS = _child(mmdet.OPTIMIZERS)
OPTIM_WRAPPERS = _child(mmdet.OPTIM_WRAPPERS, 'sparse_rcnn_mm.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmdet.OPTIM_WRAPPER_CONSTRUCTORS, 'sparse_rcnn_mm.engine')
PARAM_SCHEDULERS = _child(mmdet.PARAM_SCHEDULERS)
METRICS = _child(mmdet.METRICS, 'sparse_rcnn_mm.evaluation')
EVALUATOR = _child(mmdet.EVALUATOR)
TASK_UTILS = _child(mmdet.TASK_UTILS, 'sparse_rcnn_mm.models')
VISUALIZERS = _child(mmdet.VISUALIZERS)
VISBACKENDS = _child(mmdet.VISBACKENDS)
LOG_PROCESSORS = _child(mmdet.LOG_PROCESSORS)
