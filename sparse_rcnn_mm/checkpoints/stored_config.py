"""The config stored in a checkpoint, which may come from an untrusted source.

Building a config calls the classes that it names with the arguments that it gives. So only four parts of a stored
config are used: the model, the test data set, its batch size, and its metrics. They may contain only what is allowed
here: plain values in plain containers, registered classes of the modules below, strings that are names, and paths for
the files of the data set. Everything else is refused. Hooks, logs, visualizer and loop come from this package.
"""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.registry import registry as mmengine_registry

from sparse_rcnn_mm.errors import UserError, refusing
from sparse_rcnn_mm.registry import DATASETS, METRICS, MODELS, SCOPE, TASK_UTILS, TRANSFORMS

from .literals import read_literals

# Modules whose registered classes a stored config may name, besides this package's classes and those registered by the
# user's own code. Only their arguments `init_cfg` and `pretrained` refer to files; these are dropped.
_UPSTREAM = ('torch.nn', 'mmcv.cnn', 'mmengine.model', 'mmengine.utils.dl_utils.parrots_wrapper',  # SyncBN
             'mmdet.models.backbones', 'mmdet.models.data_preprocessors',
             'mmdet.models.layers', 'mmdet.models.losses', 'mmdet.models.necks',
             # not `tracking`, which evaluates one argument as code and loads another one as a checkpoint
             *(f'mmdet.models.task_modules.{name}' for name in ('assigners', 'coders', 'prior_generators', 'samplers')),
             *(f'mmcv.transforms.{name}' for name in ('formatting', 'loading', 'processing', 'wrappers')),
             *(f'mmdet.datasets.transforms.{name}' for name in (
                 'colorspace', 'formatting', 'geometric', 'loading', 'transforms', 'wrappers')),
             'mmdet.datasets.coco', 'mmdet.evaluation.metrics.coco_metric')
# More modules, for a whole detector of mmdet. Detectors and heads that load another model, to learn from it or to read
# text, are left out.
_MMDET = (*_UPSTREAM, 'mmdet.models.roi_heads',
          *(f'mmdet.models.dense_heads.{name}_head' for name in (
              'anchor', 'anchor_free', 'atss', 'centernet', 'conditional_detr', 'dab_detr', 'ddod', 'ddq_detr',
              'deformable_detr', 'detr', 'dino', 'embedding_rpn', 'fcos', 'gfl', 'paa', 'retina', 'retina_sepbn', 'rpn',
              'rtmdet', 'tood', 'vfnet', 'yolo', 'yolof', 'yolox')),
          *(f'mmdet.models.detectors.{name}' for name in (
              'atss', 'cascade_rcnn', 'centernet', 'conditional_detr', 'dab_detr', 'ddod', 'ddq_detr',
              'deformable_detr', 'detr', 'dino', 'faster_rcnn', 'fcos', 'gfl', 'htc', 'mask_rcnn', 'paa', 'queryinst',
              'retinanet', 'rtmdet', 'sparse_rcnn', 'tood', 'trident_faster_rcnn', 'vfnet', 'yolo', 'yolof', 'yolox')))
# Names that mmcv looks up among its operations, not in a registry.
_MMCV_OPS = ('nms', 'soft_nms', 'RoIAlign')
_NOT_THE_USERS = ('torch', 'torchvision', 'mmcv', 'mmdet', 'mmengine', 'builtins')
_SCOPES = (SCOPE, 'mmdet', 'mmengine')
_WEIGHTS = ('init_cfg', 'pretrained')  # not needed: the checkpoint contains the weights
_STORAGES = ('backend_args', 'file_client_args')
_LOCAL: tuple = ({'backend': 'local'}, {'backend': 'disk'}, {}, None)
_NAME = re.compile(r'([\w+-][\w +-]{0,99})?', re.ASCII)
_DEEPEST = 40
# The settings of `test_dataloader` in mmdet's configs.
_LOADER = ('batch_size', 'num_workers', 'persistent_workers', 'drop_last', 'sampler', 'dataset', 'pin_memory',
           'prefetch_factor', 'collate_fn')
# Arguments that may be strings, for the parts that also have arguments for files to write.
_METRIC_TEXT = {'type', 'metric', 'metric_items', 'prefix', 'collect_device'}
_DATASET_TEXT = {'type'}


def _without_scope(value: Any) -> Any:
    """Remove the `_scope_` that mmengine adds to what a config inherits from another package."""
    return {key: item for key, item in value.items() if key != '_scope_'} if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class StoredConfig:
    """The config that a checkpoint was trained with, as plain data. Nothing in it was run or built.

    Attributes:
        values: its top-level settings.
        path: the checkpoint, for messages.
    """
    values: Mapping[str, Any]
    path: str

    @classmethod
    def of(cls, text: Any, path: str | os.PathLike) -> StoredConfig:
        """Parse the text that mmengine stores as `meta['cfg']`.

        Raises:
            UserError: there is none, or it is not plain data.
        """
        if not isinstance(text, str) or not text.strip():
            raise UserError(f'{path} contains weights without a config: pass the one it was trained with '
                            '(--config FILE)')
        try:
            return cls(read_literals(text), os.fspath(path))
        except ValueError as error:
            raise UserError(f'the config in {path} is not plain data ({error}), and was not run: '
                            'pass the one it was trained with (--config FILE)') from error

    def model(self) -> dict[str, Any]:
        """The config of the model, safe to build.

        Raises:
            UserError: it is missing, malformed, or not allowed in a stored config. All methods here raise this.
        """
        return self._part('model', self.values.get('model'), _Rules((MODELS, TASK_UTILS), dropped=_WEIGHTS))

    def mmdet_model(self) -> dict[str, Any]:
        """The config of a detector of mmdet for prediction, safe to build with mmdet's registry."""
        rules = _Rules((MODELS.parent, TASK_UTILS.parent), (*_WEIGHTS, 'train_cfg'), upstream=_MMDET, ops=_MMCV_OPS)
        return self._part('model', self.values.get('model'), rules)

    def test_pipeline(self) -> list[dict[str, Any]]:
        """The test pipeline, safe to build."""
        where = 'test_dataloader.dataset.pipeline'
        pipeline = self._innermost_dataset().get('pipeline')
        if not isinstance(pipeline, (list, tuple)) or not pipeline:
            self._refuse(where, 'is not a list of transforms')
        return [self._part(f'{where}[{i}]', step, _Rules((TRANSFORMS,))) for i, step in enumerate(pipeline)]

    def dataset_type(self) -> str | None:
        """The class of the test data set, which may define class names."""
        kind = self._innermost_dataset().get('type')
        return kind if isinstance(kind, str) else None

    def metainfo(self) -> dict[str, Any]:
        """The `metainfo` of the test data set, unchecked."""
        metainfo = self._innermost_dataset().get('metainfo')
        return dict(metainfo) if isinstance(metainfo, Mapping) else {}

    def test_dataloader(self) -> dict[str, Any]:
        """The test data loader, without settings of workers and samplers."""
        loader = self._loader()
        unknown = sorted(str(key) for key, value in loader.items() if value is not None and key not in _LOADER)
        if unknown:
            self._refuse('test_dataloader', f'has {unknown[0]}, which a stored config may not set')
        if _without_scope(loader.get('collate_fn')) not in (None, {'type': 'pseudo_collate'}):
            self._refuse('test_dataloader.collate_fn', 'is not pseudo_collate')
        if _without_scope(loader.get('sampler')) not in (None, {'type': 'DefaultSampler', 'shuffle': False}):
            self._refuse('test_dataloader.sampler', 'is not a DefaultSampler without shuffling')
        numbers = {'batch_size': loader.get('batch_size', 1), 'num_workers': loader.get('num_workers', 0)}
        for (key, value), least in zip(numbers.items(), (1, 0), strict=True):
            if type(value) is not int or not least <= value <= 1024:
                self._refuse(f'test_dataloader.{key}', 'is not a sensible number')
        numbers['num_workers'] = min(numbers['num_workers'], os.cpu_count() or 1)
        return {**numbers, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}, 'dataset': self._checked_dataset()}

    def test_evaluator(self) -> list[dict[str, Any]]:
        """The metrics, safe to build."""
        metrics = self.values.get('test_evaluator') or self.values.get('val_evaluator')
        metrics = [metrics] if isinstance(metrics, Mapping) else metrics
        if not isinstance(metrics, (list, tuple)) or not metrics:
            self._refuse('test_evaluator', 'is not a metric or a list of metrics')
        rules = _Rules((METRICS,), text=_METRIC_TEXT, places=('ann_file',))
        return [_of_this_package(self._part('test_evaluator', metric, rules)) for metric in metrics]

    def _loader(self) -> Mapping[str, Any]:
        loader = self.values.get('test_dataloader') or self.values.get('val_dataloader')
        if not isinstance(loader, Mapping):
            self._refuse('test_dataloader', 'is not a dict')
        return loader

    def _dataset(self) -> Mapping[str, Any]:
        dataset = self._loader().get('dataset')
        if not isinstance(dataset, Mapping):
            self._refuse('test_dataloader.dataset', 'is not a dict')
        return dataset

    def _innermost_dataset(self) -> Mapping[str, Any]:
        dataset = self._dataset()
        while 'pipeline' not in dataset and isinstance(dataset.get('dataset'), Mapping):
            dataset = dataset['dataset']
        return dataset

    def _checked_dataset(self) -> dict[str, Any]:
        where = 'test_dataloader.dataset'
        dataset = dict(self._dataset())
        dataset.pop('pipeline', None)
        prefix, metainfo = dataset.pop('data_prefix', None) or {}, dataset.pop('metainfo', None) or {}
        checked = self._part(where, dataset, _Rules((DATASETS,), text=_DATASET_TEXT, places=('ann_file', 'data_root')))
        checked['data_prefix'] = self._part(f'{where}.data_prefix', prefix, _Rules((), text=(), places=('img',)),
                                            typed=False)
        if metainfo:
            checked['metainfo'] = {'classes': class_names(self.metainfo().get('classes'), self.path)}
        return {**checked, 'pipeline': self.test_pipeline()}

    def _part(self, where: str, part: Any, rules: _Rules, typed: bool = True) -> dict[str, Any]:
        if not isinstance(part, Mapping) or (typed and 'type' not in part):
            self._refuse(where, f'is not a dict{" with a type" if typed else ""}')
        try:
            return rules.check(part, where)
        except _Refused as error:
            self._refuse(*error.args)

    def _refuse(self, where: str, what: str) -> NoReturn:
        raise UserError(f'the config in {self.path} was not used: {where} {what}; if you trust its author, pass '
                        'the config it was trained with (--config FILE)')


def _of_this_package(metric: dict[str, Any]) -> dict[str, Any]:
    """Use this package's CocoMetric for mmdet's, which gives the masks of the annotation file to C code unchecked."""
    if (metric['type'], metric.get('_scope_')) == ('CocoMetric', 'mmdet') or metric['type'] == 'mmdet.CocoMetric':
        metric = {**metric, 'type': f'{SCOPE}.CocoMetric'}
        metric.pop('_scope_', None)
    return metric


class _Refused(Exception):
    """Raised with a place in a config, and what is wrong there."""


@dataclass(frozen=True)
class _Rules:
    """What a part of a stored config may contain.

    Attributes:
        nodes: the registries of the classes that it may name.
        dropped: arguments that are removed.
        text: arguments that may be strings; None for all.
        places: arguments of the part itself that may be paths of local files.
        upstream: the modules of other packages whose classes it may name.
        ops: names of operations of mmcv that it may name where else a class stands.
    """
    nodes: Sequence[Registry]
    dropped: Collection[str] = ()
    text: Collection[str] | None = None
    places: Collection[str] = ()
    upstream: Collection[str] = _UPSTREAM
    ops: Collection[str] = ()

    def check(self, part: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return a copy of `part` that is safe to build."""
        places = {key: self._place(part[key], f'{where}.{key}') for key in self.places if part.get(key) is not None}
        rest = {key: value for key, value in part.items() if key not in places}
        return {**self._dict(rest, where, 0), **places}

    def _dict(self, part: Mapping[str, Any], where: str, depth: int) -> dict[str, Any]:
        result = {}
        for key, value in part.items():
            if not isinstance(key, str) or not key.isidentifier() or (key.startswith('_') and key != '_scope_'):
                raise _Refused(where, f'has the argument {str(key)[:60]!r}, which is not a name')
            place = f'{where}.{key}'
            if key == 'type':
                self._check_type(value, place)
                result[key] = value
            elif key == '_scope_':
                if value not in _SCOPES:
                    raise _Refused(place, f'is not one of {", ".join(_SCOPES)}')
                result[key] = value
            elif key in _STORAGES:
                if value not in _LOCAL:
                    raise _Refused(place, 'is not local storage')
            elif key not in self.dropped:
                result[key] = self._value(value, place, key, depth)
        return result

    def _value(self, value: Any, where: str, key: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise _Refused(where, 'is nested too deeply')
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str:
            if self.text is not None and key not in self.text:
                raise _Refused(where, f'is a string ({value[:60]!r}), which a stored config may not have here')
            if not _NAME.fullmatch(value):
                raise _Refused(where, f'is not a name ({value[:60]!r})')
            return value
        if type(value) is dict:
            return self._dict(value, where, depth + 1)
        if type(value) in (list, tuple, set):
            return type(value)(self._value(item, f'{where}[{i}]', key, depth + 1) for i, item in enumerate(value))
        raise _Refused(where, f'is of the type {type(value).__name__}')

    @staticmethod
    def _place(value: Any, where: str) -> str:
        if type(value) is not str or '://' in value or '\0' in value:
            raise _Refused(where, 'is not a path of a local file')
        return value

    def _check_type(self, kind: Any, where: str) -> None:
        if type(kind) is not str:
            raise _Refused(where, f'is not the name of a class ({str(kind)[:60]!r})')
        if kind in self.ops:
            return
        scope, _, name = kind.rpartition('.')
        if '.' in kind and scope not in _SCOPES:
            raise _Refused(where, f'is {kind[:60]!r}, which is not registered')
        found = [cls for node in self.nodes if (cls := _registered(node, scope, name)) is not None]
        if not found:
            raise _Refused(where, f'is {kind[:60]!r}, which is not registered: import the module that registers it')
        for cls in found:
            if not isinstance(cls, type) or not _may_be_named(cls.__module__, self.upstream):
                raise _Refused(where, f'is {kind[:60]!r}, which a stored config may not name')


def _registered(node: Registry, scope: str, name: str) -> Any:
    """Look up a name in a registry and its parents, or only in the named scope if there is one."""
    chain: Registry | None = node
    while chain is not None:
        chain.import_from_location()
        if scope in ('', chain.scope) and name in chain.module_dict:
            return chain.module_dict[name]
        chain = chain.parent
    return None


def is_of_mmdet(config: Mapping[str, Any] | Config) -> bool:
    """Whether the model of a config is one of mmdet's: by the prefix of its type, else by the default scope."""
    model = config.get('model')
    kind = model.get('type') if isinstance(model, Mapping) else None
    scope = kind.rpartition('.')[0] if isinstance(kind, str) else ''
    return (scope or config.get('default_scope')) == 'mmdet'


def _may_be_named(module: str, upstream: Collection[str]) -> bool:
    def within(names: Collection[str]) -> bool:
        return any(module == name or module.startswith(f'{name}.') for name in names)

    return within(upstream) or not within(_NOT_THE_USERS)


def class_names(names: Any, path: str | os.PathLike) -> tuple[str, ...]:
    """Read the class names of a checkpoint: a list of strings, or the name of a single class.

    Raises:
        UserError: they are something else.
    """
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(f'the class names in {path} are not a list of strings')
    return tuple(names)


@contextmanager
def registered_only() -> Iterator[None]:
    """Make mmengine build only registered classes. Otherwise it also imports modules and calls functions by path."""
    before = {name: getattr(mmengine_registry, name) for name in ('get_object_from_string', 'import_module')}
    mmengine_registry.get_object_from_string = lambda name: None
    mmengine_registry.import_module = _import_known
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(mmengine_registry, name, function)


def _import_known(name: str) -> Any:
    """Import a module in which mmengine looks for classes, if it is of a known package or already imported."""
    if name.split('.')[0] in (*_NOT_THE_USERS, SCOPE) or name in sys.modules:
        return import_module(name)
    raise ImportError(f'{name} is not imported for a stored config')


@contextmanager
def building(path: str | os.PathLike) -> Iterator[None]:
    """A context for building parts of a stored config: only registered classes, and any error becomes a UserError."""
    with refusing(lambda error: f'the config of {path} does not describe a model of this package ({error}): '
                  'pass one that does (--config FILE)'), registered_only():
        yield
