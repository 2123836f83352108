"""Our registries are children of mmdet's, and import where mmcv has no compiled operations."""
import importlib.machinery
import importlib.util
import sys
import types

import mmcv.utils.ext_loader
import mmdet.registry
import pytest
import torch
from mmengine.registry import DefaultScope, Registry

from sparse_rcnn_mm import mmcv_ops, models, registry

from .samples import tiny_model

NODES = {name: node for name, node in vars(mmdet.registry).items()
         if isinstance(node, Registry) and node.scope == 'mmdet'}


def test_mmdet_has_twenty_nodes() -> None:
    assert len(NODES) == 20


@pytest.mark.parametrize('name', NODES)
def test_each_node_is_the_child_of_mmdets(name: str) -> None:
    node = getattr(registry, name)
    assert node.parent is NODES[name] and node.scope == 'sparse_rcnn_mm' and node.name == NODES[name].name
    assert NODES[name].children['sparse_rcnn_mm'] is node


@pytest.mark.parametrize(('node', 'name'), [
    ('MODELS', 'ResNet'), ('MODELS', 'FPN'), ('MODELS', 'DetDataPreprocessor'), ('DATASETS', 'LVISV1Dataset'),
    ('TRANSFORMS', 'RandomFlip'), ('METRICS', 'VOCMetric'),
    ('HOOKS', 'TrackVisualizationHook'), ('HOOKS', 'IterTimerHook'), ('VISUALIZERS', 'DetLocalVisualizer'),
    ('OPTIMIZERS', 'AdamW'), ('PARAM_SCHEDULERS', 'MultiStepLR'), ('DATA_SAMPLERS', 'InfiniteSampler')])
def test_what_we_do_not_define_falls_back(node: str, name: str) -> None:
    found = getattr(registry, node).get(name)
    assert found is not None and found.__name__ == name and not found.__module__.startswith('sparse_rcnn_mm')


def test_our_names_hide_mmdets_in_our_scope_only() -> None:
    for name in models.__all__:
        node = registry.MODELS if registry.MODELS.get(name) is not None else registry.TASK_UTILS
        assert node.get(name) is getattr(models, name)
        assert node.get(f'sparse_rcnn_mm.{name}') is getattr(models, name)
    assert registry.MODELS.get('mmdet.SparseRCNN').__module__.startswith('mmdet.')
    assert mmdet.registry.MODELS.get('SparseRCNN').__module__.startswith('mmdet.')


@pytest.mark.parametrize('name', NODES)
def test_mmengine_finds_each_node_from_its_own(name: str) -> None:
    """Where a scope lacks a node, mmengine warns and takes its own."""
    with NODES[name].parent.switch_scope_and_registry('sparse_rcnn_mm') as found:
        assert found is getattr(registry, name)


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process where mmcv has no compiled operations and nothing was put in their place yet."""
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    monkeypatch.setattr(importlib.machinery.PathFinder, 'find_spec', lambda *_: None)
    monkeypatch.setattr(sys, 'modules', dict(sys.modules))


def test_placeholder_raises_the_sentence_when_an_operation_is_called(no_extension: None) -> None:
    mmcv_ops.ensure_mmcv_imports()
    operation = sys.modules['mmcv._ext'].roi_align_forward
    with pytest.raises(NotImplementedError,
                       match='^mmcv was installed without compiled ops: roi_align_forward is unavailable$'):
        operation(1, aligned=True)
    assert not hasattr(sys.modules['mmcv._ext'], '__wrapped__')


def test_placeholder_says_that_there_is_no_extension_to_load(no_extension: None) -> None:
    mmcv_ops.ensure_mmcv_imports()
    spec = sys.modules['mmcv._ext'].__spec__
    assert spec == importlib.machinery.ModuleSpec('mmcv._ext', None) and spec.loader is None


def test_placeholder_steps_aside_for_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.ModuleType('mmcv._ext')
    monkeypatch.setitem(sys.modules, 'mmcv._ext', there)
    mmcv_ops.ensure_mmcv_imports()
    assert sys.modules['mmcv._ext'] is there


def test_mmcvs_own_check_tells_the_truth() -> None:
    compiled = not isinstance(sys.modules['mmcv._ext'], mmcv_ops._MissingOps)
    assert mmcv.utils.ext_loader.check_ops_exist() == compiled


def test_without_drawing_random_values_are_zeros_and_others_stay() -> None:
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        drawn = registry.MODELS.build(tiny_model()).state_dict()
        with registry.WithoutDrawing():
            values = registry.MODELS.build(tiny_model()).state_dict()
        again = registry.MODELS.build(tiny_model()).state_dict()
    assert list(values) == list(drawn)
    for name, value in values.items():
        random = not torch.equal(drawn[name], again[name])
        assert torch.equal(value, torch.zeros_like(value) if random else drawn[name]), name
