"""The config inside a checkpoint: what mmengine writes is read as it reads it, and nothing it names is ever run."""
from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, DefaultScope

import sparse_rcnn_mm.engine  # noqa: F401
from sparse_rcnn_mm.checkpoints import Metadata, StoredConfig, building
from sparse_rcnn_mm.checkpoints.literals import read_literals
from sparse_rcnn_mm.checkpoints.stored_config import is_of_mmdet
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import METRICS, MODELS, TRANSFORMS

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs').glob('*.py'))
DIGITS = Config.fromfile(CONFIGS[0].with_name('sparse_rcnn_r18_digits.py'))


def stored(values: dict[str, Any]) -> StoredConfig:
    return StoredConfig(values, 'x.pth')


def digits() -> dict[str, Any]:
    return copy.deepcopy(read_literals(DIGITS.pretty_text))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_text_is_read_as_mmengine_reads_it(path: Path) -> None:
    text = Config.fromfile(path).pretty_text
    by_running = Config.fromstring(text, '.py').to_dict()
    config = Metadata.of({'meta': {'cfg': text}}, 'x.pth').config()
    assert config.values == by_running
    model = by_running['model']
    model['backbone'].pop('init_cfg')
    model['neck'].pop('init_cfg', None)
    assert config.model() == model
    assert [step['type'] for step in config.test_pipeline()] == [
        step['type'] for step in by_running['test_dataloader']['dataset']['pipeline']]
    assert config.test_dataloader()['dataset']['ann_file'] == by_running['test_dataloader']['dataset']['ann_file']
    evaluators = by_running['test_evaluator']
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    assert [one['ann_file'] for one in config.test_evaluator()] == [one['ann_file'] for one in evaluators]


@pytest.mark.parametrize('kind', [{'type': 'mmdet.CocoMetric'}, {'type': 'CocoMetric', '_scope_': 'mmdet'},
                                  {'type': 'CocoMetric'}])
def test_the_metric_is_always_the_one_that_checks_masks(kind: dict[str, str], tmp_path: Path) -> None:
    content = {'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 9, 'height': 9}], 'categories': [
        {'id': 1, 'name': 'cat'}], 'annotations': [
        {'id': 5, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 3, 3], 'area': 9, 'iscrowd': 0,
         'segmentation': {'size': [9, 9], 'counts': 'oooo'}}]}
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    values = {'test_evaluator': {**kind, 'ann_file': str(tmp_path / 'coco.json'), 'metric': ['bbox', 'segm']}}
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'), pytest.raises(UserError, match='annotation 5 of'):
        METRICS.build(stored(values).test_evaluator()[0])


def test_literals_of_every_kind() -> None:
    values = read_literals("a = dict(b=-1e-05, c=(1, 'two' 'three'), **{'d.e': None})\n"
                           "f = {'g h': [True, {1, 2}, tuple([3]), list()], 4: b'x'}")
    assert values == {'a': {'b': -1e-05, 'c': (1, 'twothree'), 'd.e': None},
                      'f': {'g h': [True, {1, 2}, (3,), []], 4: b'x'}}


@pytest.mark.parametrize('text', [
    'import os',
    "a = __import__('os').system('touch MARK')",
    "a = open('MARK', 'w')",
    "a = dict(b=[open('MARK', 'w')])",
    "a = dict(open('MARK', 'w'))",
    "a = {**open('MARK', 'w')}",
    "a = f'{open(\"MARK\", \"w\")}'",
    "a = [open('MARK', 'w') for _ in range(1)]",
    "a = (lambda: open('MARK', 'w'))()",
    'a = b',
    'a.b = 1',
    'a = b = 1',
    'dict = 1; a: int = 2',
    'a = 1 if True else 2',
    'if True: a = 1',
    'a = (',
    'a = ' + '[' * 5000 + ']' * 5000,
    'a = {[]: 1}',
    'a = dict(1)',
    'a = dict(**1)',
    'a = "\0"',
])
def test_anything_else_is_refused_and_not_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='not plain data'):
        Metadata.of({'meta': {'cfg': text}}, 'x.pth').config()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('contents', [{}, {'meta': None}, {'meta': {'cfg': ' '}}, {'meta': {'cfg': 3}}])
def test_without_config_the_message_says_what_to_pass(contents: dict) -> None:
    with pytest.raises(UserError, match='x.pth contains weights without a config.*--config'):
        Metadata.of(contents, 'x.pth').config()


@pytest.mark.parametrize('kind', ['os.system', 'this', 'mmengine.Config', 'mmengine.config.Config', 'builtins.exec',
                                  'mmdet.os.system', 'sparse_rcnn_mm.errors.UserError', 'mmdet.SparseRCNN', '',
                                  'KnowledgeDistillationSingleStageDetector', 'BertModel', 'mmdet.', '.ResNet', 3, None,
                                  ['ResNet'], {'type': 'ResNet'}])
def test_only_listed_classes_may_be_named(kind: Any) -> None:
    values = digits()
    values['model']['backbone'] = dict(type=kind, depth=18)
    with pytest.raises(UserError, match=r'x.pth was not used: model.backbone.type is .*--config'):
        stored(values).model()


def test_registered_functions_may_not_be_named() -> None:
    values = digits()
    values['test_dataloader']['collate_fn'] = dict(type='default_collate')
    assert FUNCTIONS.get('default_collate') is not None
    with pytest.raises(UserError, match='test_dataloader.collate_fn'):
        stored(values).test_dataloader()


def test_classes_of_all_scopes_and_of_the_users_are_known() -> None:

    class OfTheUser:
        pass

    OfTheUser.__module__ = 'their_code'
    MODELS.register_module(name='OfTheUser', module=OfTheUser, force=True)
    for kind in ('ResNet', 'mmdet.FPN', 'sparse_rcnn_mm.SparseRCNN', 'OfTheUser'):
        assert stored({'model': {'type': kind, 'norm_cfg': {'type': 'BN'}}}).model()['type'] == kind


def test_the_pipeline_of_a_wrapped_data_set() -> None:
    values = digits()
    inner = values['test_dataloader']['dataset']
    values['test_dataloader']['dataset'] = dict(type='RepeatDataset', times=1, dataset=inner)
    wrapped = stored(values)
    assert wrapped.test_pipeline() == stored(digits()).test_pipeline()
    assert wrapped.dataset_type() == inner['type']
    values['test_dataloader']['dataset']['pipeline'] = inner['pipeline'][:1]
    assert len(stored(values).test_pipeline()) == 1 and len(inner['pipeline']) > 1


def test_class_names_of_the_test_data_are_kept_and_nothing_else() -> None:
    values = digits()
    assert 'metainfo' not in stored(values).test_dataloader()['dataset']
    values['test_dataloader']['dataset']['metainfo'] = dict(classes=['a', 'b'], palette=[(1, 2, 3)])
    assert stored(values).test_dataloader()['dataset']['metainfo'] == {'classes': ('a', 'b')}


def test_a_config_that_inherits_from_the_package_has_scopes_in_its_data_loader() -> None:
    """mmengine adds them to every dict with a type of a `_base_` like sparse_rcnn_mm::configs/NAME.py."""
    values = digits()
    wanted = stored(values).test_dataloader()
    loader = values['test_dataloader']
    loader['sampler']['_scope_'] = loader['dataset']['_scope_'] = 'sparse_rcnn_mm'
    loader['collate_fn'] = dict(type='pseudo_collate', _scope_='sparse_rcnn_mm')
    found = stored(values).test_dataloader()
    assert found['dataset'].pop('_scope_', 'sparse_rcnn_mm') == 'sparse_rcnn_mm'
    assert found == wanted
    loader['sampler']['shuffle'] = True
    with pytest.raises(UserError, match='test_dataloader.sampler is not a DefaultSampler without shuffling'):
        stored(values).test_dataloader()


def test_the_scope_of_a_part_is_a_known_one() -> None:
    for scope in ('sparse_rcnn_mm', 'mmdet', 'mmengine'):
        model = {'type': 'ResNet', '_scope_': scope}
        assert stored({'model': model}).model() == model
    with pytest.raises(UserError, match=r'model\._scope_ is not one of sparse_rcnn_mm, mmdet, mmengine'):
        stored({'model': {'type': 'ResNet', '_scope_': 'other'}}).model()


def test_forty_brackets_and_not_one_more() -> None:
    def nested(depth: int) -> Any:
        return [nested(depth - 1)] if depth else 7

    assert stored({'model': {'type': 'ResNet', 'a': nested(40)}}).model()['a'] == nested(40)
    with pytest.raises(UserError, match='is nested too deeply'):
        stored({'model': {'type': 'ResNet', 'a': nested(41)}}).model()


@pytest.mark.parametrize('place', ['http://x.org/a.json', 's3://x/a.json', 'a\0.json', 7, ['a.json']])
def test_places_are_local_files(place: Any) -> None:
    values = digits()
    for part in (values['test_dataloader']['dataset'], values['test_evaluator']):
        part['ann_file'] = place
    for use in (stored(values).test_dataloader, stored(values).test_evaluator):
        with pytest.raises(UserError, match='ann_file is not a path of a local file'):
            use()


def test_text_of_metrics_and_data_sets_is_listed() -> None:
    values = digits()
    values['test_evaluator']['outfile_prefix'] = 'name'
    with pytest.raises(UserError, match=r"test_evaluator\.outfile_prefix is a string \('name'\), which"):
        stored(values).test_evaluator()
    dataset = values['test_dataloader']['dataset']
    prefix = dataset.get('data_prefix') or {}
    dataset['data_prefix'] = {**prefix, 'seg': 'name'}
    with pytest.raises(UserError, match=r"test_dataloader\.dataset\.data_prefix\.seg is a string \('name'\), which"):
        stored(values).test_dataloader()
    dataset.update(data_prefix=prefix, seg_map_suffix='name')
    with pytest.raises(UserError, match=r"test_dataloader\.dataset\.seg_map_suffix is a string \('name'\), which"):
        stored(values).test_dataloader()


def test_the_numbers_of_a_data_loader() -> None:
    values = digits()
    values['test_dataloader'] = {'dataset': values['test_dataloader']['dataset']}
    loader = stored(values).test_dataloader()
    assert (loader['batch_size'], loader['num_workers']) == (1, 0)
    for key, good, bad in (('batch_size', (1, 1024), (0, 1025, True, 2.)), ('num_workers', (0, 1), (-1, 1025, None))):
        for number in good:
            assert stored(put_loader(values, key, number)).test_dataloader()[key] == number
        for number in bad:
            with pytest.raises(UserError, match=rf'test_dataloader\.{key} is not a sensible number'):
                stored(put_loader(values, key, number)).test_dataloader()


def put_loader(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**values, 'test_dataloader': {**values['test_dataloader'], key: value}}


@pytest.mark.parametrize('kind', [
    'torch.nn ReLU', 'mmcv.cnn NonLocal2d', 'mmengine.model BaseDataPreprocessor', 'mmengine.utils SyncBN',
    'backbones ResNet', 'data_preprocessors mmdet.DetDataPreprocessor', 'layers DropBlock',
    'losses CrossEntropyLoss', 'necks FPN', 'assigners MaxIoUAssigner', 'coders DeltaXYWHBBoxCoder',
    'prior_generators AnchorGenerator', 'samplers PseudoSampler'])
def test_a_model_may_name_classes_of_these_modules(kind: str) -> None:
    model = {'type': 'ResNet', 'part': {'type': kind.split()[1]}}
    assert stored({'model': model}).model() == model


@pytest.mark.parametrize('kind', [
    'mmcv.formatting ImageToTensor', 'mmcv.loading LoadImageFromFile', 'mmcv.processing Normalize',
    'mmcv.wrappers TransformBroadcaster', 'colorspace ColorTransform', 'formatting mmdet.PackDetInputs',
    'geometric ShearX', 'loading mmdet.LoadAnnotations', 'transforms mmdet.Resize', 'wrappers MultiBranch'])
def test_a_pipeline_may_name_classes_of_these_modules(kind: str) -> None:
    step = {'type': kind.split()[1]}
    assert stored({'val_dataloader': {'dataset': {'pipeline': [step]}}}).test_pipeline() == [step]


@pytest.mark.parametrize(('config', 'yes'), [
    ({'model': {'type': 'mmdet.ATSS'}}, True), ({'model': {'type': 'ATSS'}, 'default_scope': 'mmdet'}, True),
    ({'model': {'type': 'sparse_rcnn_mm.SparseRCNN'}, 'default_scope': 'mmdet'}, False),
    ({'model': {'type': 'SparseRCNN'}, 'default_scope': 'sparse_rcnn_mm'}, False), ({'model': 3}, False), ({}, False),
    ({'model': {'type': 3}, 'default_scope': 'mmdet'}, True)])
def test_whose_model_it_is(config: dict[str, Any], yes: bool) -> None:
    assert is_of_mmdet(config) is yes


# Wherever something else than the model's sizes can stand in a config, with what must not come of it.

MARKER = 'evil_module'


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that can be imported, and leaves a file when it is; its function `touch` leaves another."""
    folder = tmp_path / 'modules'
    (folder / MARKER).mkdir(parents=True)
    for name in ('__init__', 'registry', 'touch'):
        (folder / MARKER / f'{name}.py').write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('imported')\n"
            f"def touch(*args, **options): open({str(tmp_path / 'ran')!r}, 'a').write('called')\n"
            "def __getattr__(name): return touch\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / 'ran'
    sys.modules.pop(MARKER, None)


def places(part: Any, place: tuple = ()) -> Iterator[tuple]:
    """Every dict and list of a config, by the keys that lead to it."""
    if isinstance(part, dict):
        yield place
        for key, value in part.items():
            yield from places(value, (*place, key))
    elif isinstance(part, (list, tuple)):
        for index, value in enumerate(part):
            yield from places(value, (*place, index))


def put(values: dict[str, Any], place: tuple, change: Callable[[dict], None]) -> dict[str, Any]:
    values = copy.deepcopy(values)

    def listed(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: listed(value) for key, value in part.items()}
        return [listed(value) for value in part] if isinstance(part, (list, tuple)) else part

    values = part = listed(values)
    for key in place:
        part = part[key]
    change(part)
    return values


FULL = {**digits(), 'custom_hooks': [{'type': 'EMAHook'}], 'custom_imports': {'imports': ['os']},
        'log_processor': {'type': 'LogProcessor'}, 'env_cfg': {'dist_cfg': {'backend': 'gloo'}},
        'visualizer': {'type': 'DetLocalVisualizer', 'vis_backends': [{'type': 'LocalVisBackend', 'save_dir': 'x'}]},
        'runner_type': 'Runner', 'test_cfg': {'type': 'TestLoop'}}
PLACES = list(places(FULL))
TYPES = (f'{MARKER}.touch', MARKER, f'mmengine.{MARKER}.touch', f'{MARKER}.touch.touch', 'os.system')
KEYS = ('type', '_scope_', 'collate_fn', 'init_cfg', 'transform', 'worker_init_fn', 'act_cfg', 'custom_imports')


def changes() -> Iterator[tuple[str, Callable[[dict], None]]]:
    for kind in TYPES:
        for key in KEYS:
            yield f'{key}={kind}', lambda part, key=key, kind=kind: part.update({key: kind})
            yield f'{key}=dict({kind})', lambda part, key=key, kind=kind: part.update({key: {'type': kind}})
            yield f'{key}=[dict({kind})]', lambda part, key=key, kind=kind: part.update(
                {key: [({'type': kind, 'command': 'touch ran'},)]})
    for key in ('out_file_path', 'outfile_prefix', 'save_dir', 'test_out_dir', 'work_dir', 'out_dir'):
        yield key, lambda part, key=key: part.update({key: './evil_module_output'})


@pytest.mark.parametrize('place', PLACES, ids=lambda place: '.'.join(map(str, place)))
def test_nothing_foreign_survives_at_any_place(place: tuple, evil: Path) -> None:
    """Whatever is put anywhere is refused, or does not reach what is built."""
    for name, change in changes():
        config = stored(put(FULL, place, change))
        for part in (config.model, config.test_pipeline, config.test_dataloader, config.test_evaluator):
            try:
                built = repr(part())
            except UserError as error:
                assert '\n' not in str(error), name  # noqa: PT017
                continue
            assert "'type': 'evil_module" not in built and 'evil_module_output' not in built, name
            assert 'evil_module.' not in built and 'os.system' not in built, name
    assert not evil.exists()


@pytest.mark.parametrize('kind', TYPES)
def test_building_takes_registered_classes_only(kind: str, evil: Path) -> None:
    """Also where a constructor makes a type out of an argument that is mere text."""
    for node in (MODELS, TRANSFORMS, METRICS):
        with pytest.raises(UserError, match='x.pth does not describe a model'), building('x.pth'):
            node.build({'type': kind, 'command': 'touch ran'})
    assert not evil.exists()


MALFORMED: list[tuple[str, Any]] = [
    ('model', None), ('model', 'ResNet'), ('model', 5), ('model', []), ('model', {}), ('model', {'type': 'SparseRCNN'}),
    ('model', {'type': 'FPN', 'in_channels': [8], 'out_channels': 8, 'num_outs': 1}), ('model.roi_head', None),
    ('model.backbone', []), ('model.backbone.depth', 'x'), ('model.backbone.depth', 1 << 70),
    ('model.neck.in_channels', [1, 2]), ('model.neck.out_channels', -1), ('model.roi_head.num_stages', 'many'),
    ('model.roi_head.bbox_head', [{'type': 'FPN', 'in_channels': [8], 'out_channels': 8, 'num_outs': 1}]),
    ('model.roi_head.roi_extractor.strides', [8]), ('model.roi_head.bbox_head.num_heads', 7),
    ('model.rpn_head.num_proposals', 1 << 62), ('model.data_preprocessor', 'x'), ('model.data_preprocessor', {}),
    ('model.postprocessor', {'type': 'TopKDetections', 'max_per_img': 'x'}), ('model.text', 'reserved'),
    ('model.filename', 'reserved'), ('text', 'reserved'), ('filename', 'reserved'), ('pretty_text', {}),
    ('env_variables', 1), ('test_dataloader', None), ('test_dataloader', 3), ('test_dataloader.dataset', 'x'),
    ('test_dataloader.dataset.pipeline', [1, 2]), ('test_dataloader.dataset.pipeline', 'Pack'),
    ('test_dataloader.dataset.pipeline', {}), ('test_dataloader.dataset.pipeline', [{'type': 'PackDetInputs'}, None]),
    ('test_dataloader.dataset.pipeline', [{'type': 'LoadRGBImage'}]),
    ('test_dataloader.dataset.pipeline', [{'type': 'ResizeShortSide'}, {'type': 'PackDetInputs', 'meta_keys': 3}]),
    ('test_dataloader.dataset.metainfo', {'classes': 3}), ('test_dataloader.dataset.metainfo', {'classes': [1]}),
    ('test_dataloader.dataset.data_root', 5), ('test_dataloader.dataset.ann_file', 's3://bucket/x.json'),
    ('test_dataloader.dataset.ann_file', 'nul\0.json'), ('test_dataloader.dataset.data_prefix', {'img': 3}),
    ('test_dataloader.dataset.backend_args', {'backend': 'petrel'}), ('test_dataloader.batch_size', 'x'),
    ('test_dataloader.batch_size', 0), ('test_dataloader.batch_size', True), ('test_dataloader.num_workers', 1 << 40),
    ('test_evaluator', []), ('test_evaluator', 'CocoMetric'), ('test_evaluator', [3]), ('test_evaluator', {'a': 1}),
    ('test_evaluator.ann_file', 3), ('test_evaluator.metric', b'bbox'), ('test_evaluator.extra', 1),
    ('model.roi_head.bbox_head', {'type': 'DIIHead', 1: 2}), ('model.backbone.x', {1, 2}), ('model.x', 1j),
]


def malformed(place: str, value: Any) -> dict[str, Any]:
    *folder, name = place.split('.')
    return put(FULL, tuple(folder), lambda part: part.update({name: value}))


@pytest.fixture(scope='module')
def weights() -> dict[str, torch.Tensor]:
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        return MODELS.build(DIGITS.model).state_dict()


@pytest.mark.parametrize(('place', 'value'), MALFORMED, ids=lambda value: str(value)[:40])
def test_whatever_is_malformed_is_one_sentence(place: str, value: Any, weights: dict, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """By the detector, and by the config for testing."""
    monkeypatch.chdir(tmp_path)  # where the config's data/digits is not
    from sparse_rcnn_mm.engine.testing import run_test, testing_config
    from sparse_rcnn_mm.inference import Detector
    text = '\n'.join(f'{name} = {part!r}' for name, part in malformed(place, value).items())
    path = tmp_path / 'x.pth'
    torch.save({'meta': {'cfg': text, 'dataset_meta': {'classes': list('0123456789')}}, 'state_dict': weights}, path)
    outcomes = []
    arguments = Config(dict(checkpoint=str(path), config=None, data=None, cfg_options={}, launcher='none',
                            work_dir=str(tmp_path / 'work')))
    for use in (lambda: Detector.from_checkpoint(path, device='cpu'), lambda: run_test(testing_config(arguments))):
        try:
            use()
            outcomes.append('')
        except UserError as error:
            outcomes.append(str(error))
    assert all('\n' not in outcome for outcome in outcomes)
    assert outcomes[1], 'there are no such data, so a test always ends in a sentence'


@pytest.mark.parametrize('meta', [
    'x', {'dataset_meta': 3}, {'dataset_meta': {'classes': 3}}, {'dataset_meta': {'classes': [1, 2]}},
    {'dataset_meta': {'classes': ['a', 'b'], 'cat_ids': [1]}}, {'dataset_meta': {'classes': ['a', 'b'], 'cat_ids': 7}},
    {'dataset_meta': {'classes': ['a', 'b'], 'cat_ids': [1, 1]}},
    {'dataset_meta': {'classes': ['a'], 'cat_ids': ['1']}},
    {'CLASSES': 3},
])
def test_malformed_metadata_are_one_sentence(meta: Any) -> None:
    with pytest.raises(UserError, match=r'(in|of|inside) x.pth'):
        Metadata.of({'meta': meta}, 'x.pth')


def test_metadata_of_every_layout() -> None:
    old = Metadata.of(dict(meta=dict(CLASSES=('cat',), cfg='model = ...')), 'x.pth')
    assert (old.classes, old.category_ids, old.ids_by_class()) == (('cat',), None, {'cat': 0})
    new = Metadata.of(dict(meta=dict(dataset_meta=dict(classes=['dog', 'cat'], cat_ids=[7, 3], palette=[1]))), 'x.pth')
    assert (new.classes, new.ids_by_class(), new.palette) == (('dog', 'cat'), {'dog': 7, 'cat': 3}, None)
    candidate = Metadata.of(dict(meta=dict(dataset_meta=dict(CLASSES='cat', PALETTE=[(1, 2, 3)]))), 'x.pth')
    assert (candidate.classes, candidate.palette) == (('cat',), ((1, 2, 3),))
    for palette, kept in (([(0, 1, 255), (2, 3, 4)], ((0, 1, 255),)), ([(0, 1, 256)], None), ([(-1, 1, 2)], None),
                          ([(1., 2, 3)], None), ([(1, 2)], None), ([], None)):
        colored = Metadata.of(dict(meta=dict(dataset_meta=dict(classes=['a'], palette=palette))), 'x.pth')
        assert colored.palette == kept
    without = Metadata.of(dict(state_dict={}), 'x.pth')
    assert without.classes is None and without.ids_by_class() is None
    twice = Metadata.of(dict(meta=dict(dataset_meta=dict(classes=['a', 'a']))), 'x.pth')
    with pytest.raises(UserError, match="two classes in x.pth have the name 'a'"):
        twice.ids_by_class()
