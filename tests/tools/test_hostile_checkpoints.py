"""A checkpoint made to harm, given to every command: nothing in it runs, nothing that it names is written."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.checkpoints.literals import read_literals
from sparse_rcnn_mm.cli.doctor import main as doctor
from tests.kit import DIGITS_CONFIG

Tool = Callable[..., int]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RUN = {'type': 'os.system', 'command': 'touch ran'}
IMPORT = {'type': 'evil_module.touch'}
EVIL_FILE = {'type': 'Pretrained', 'checkpoint': 'evil.pth'}
# What is put into the stored config, one at a time.
MODEL = {'model': RUN, 'model.backbone': IMPORT, 'model.criterion': RUN, 'default_scope': 'evil_module',
         'model.roi_head.bbox_head.dynamic_conv': IMPORT}
TEST = {'test_evaluator': RUN, 'test_evaluator.outfile_prefix': 'written/x', 'test_dataloader.sampler': RUN,
        'test_dataloader.dataset': IMPORT, 'test_dataloader.dataset.pipeline': [RUN],
        'test_dataloader.dataset.backend_args': IMPORT}
# All together, since no command uses them, whatever they hold.
UNUSED = {
    'custom_hooks': [RUN], 'custom_imports': {'imports': ['evil_module']}, 'visualizer': RUN, 'log_processor': RUN,
    'runner_type': 'evil_module.touch', 'test_cfg': RUN, 'optim_wrapper': RUN, 'param_scheduler': [RUN],
    'default_hooks': {'checkpoint': RUN}, 'train_dataloader': RUN, 'train_cfg': RUN, 'load_from': 'evil.pth',
    'work_dir': 'written', 'vis_backends': [{'type': 'LocalVisBackend', 'save_dir': 'written'}],
    'val_evaluator': RUN, 'test_dataloader.collate_fn': IMPORT, 'model.init_cfg': EVIL_FILE,
    'model.backbone.init_cfg': EVIL_FILE}


class Marker:
    """Runs a command if it is ever unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ('touch ran',)


def replaced(contents: dict[str, Any], places: dict[str, Any]) -> dict[str, Any]:
    config = read_literals(contents['meta']['cfg'])
    for place, value in places.items():
        *folders, name = place.split('.')
        part = config
        for key in folders:
            part = part[key]
        part[name] = value
    return with_meta(contents, cfg='\n'.join(f'{name} = {value!r}' for name, value in config.items()))


def with_meta(contents: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**contents, 'meta': {**contents['meta'], **changes}}


def attacks(contents: dict[str, Any], places: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the checkpoint holds, by what is wrong with it; nothing with the first."""
    code = "__import__('os').system('touch ran')"
    return {
        'sound': contents,
        'pickle': {**contents, 'x': Marker()},
        'pickled weight': {**contents, 'state_dict': {**contents['state_dict'], 'x': Marker()}},
        'code': with_meta(contents, cfg=code), 'code of mmdet 2.x': with_meta(contents, config=code),
        'inherited code': with_meta(contents, cfg="_base_ = './evil_module.py'\n" + contents['meta']['cfg']),
        'unused places': replaced(contents, UNUSED),
        **{place: replaced(contents, {place: value}) for place, value in places.items()}}


@pytest.fixture(scope='module')
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled by the first test."""
    return tmp_path_factory.mktemp('once') / 'first'


@pytest.fixture
def sound(once: Path, tool: Tool, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The contents of a checkpoint of iteration 2, in a folder with a module and weights that must not be loaded."""
    if not once.exists():
        assert tool('train', DIGITS_CONFIG, '--work-dir', once, *small, 'train_cfg.max_iters=2') == 0
    shutil.copytree(once, 'first')
    (tmp_path / 'evil_module.py').write_text("import os\nos.system('touch ran')\n\ndef touch(**_): pass")
    torch.save({'state_dict': {}, 'x': Marker()}, 'evil.pth')
    monkeypatch.syspath_prepend(tmp_path)
    contents = read_checkpoint('first/iter_2.pth')
    for name, weight in contents['state_dict'].items():
        if 'fc_reg.weight' in name:
            weight *= 0.1  # boxes move as little as after a long training: `export` compares them
    return contents


# Arguments, and the places of the config that the command may use.
COMMANDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    'test': (['CHECKPOINT'], {**MODEL, **TEST}),
    'analyze': (['CHECKPOINT', '--out-dir', 'out'], {**MODEL, **TEST}),
    'infer': (['IMAGE', '--model', 'CHECKPOINT', '--out-dir', 'out'], MODEL),
    'visualize_stages': (['IMAGE', '--model', 'CHECKPOINT', '--out-dir', 'out', '--score-thr', '0'], MODEL),
    'compare': (['CHECKPOINT', 'CHECKPOINT', 'IMAGES', '--out-dir', 'out'], MODEL),
    'export': (['CHECKPOINT', '--format', 'onnx', '--out', 'x.onnx', '--static', '64', '64'], MODEL),
    'benchmark': ([DIGITS_CONFIG, 'CHECKPOINT', '--size', '64', '64', '--repeats', '1', 'SMALL'], {}),
    'convert_official_checkpoint': (['CHECKPOINT', 'x.pth'], {}),
    'train --resume': ([DIGITS_CONFIG, '--resume', 'CHECKPOINT', '--work-dir', 'work', 'SMALL'], {}),
    'train --load-from': ([DIGITS_CONFIG, '--load-from', 'CHECKPOINT', '--work-dir', 'work', 'SMALL'], {}),
    'doctor': (['first', '--images', '2', '--iterations', '2', '--minutes', '0.05'], {}),
}


@pytest.mark.parametrize('command', COMMANDS)
def test_nothing_runs_and_nothing_else_is_written(command: str, sound: dict[str, Any], tool: Tool, small: list[str],
                                                  digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    for image in sorted((digits / 'val').iterdir())[:2]:
        (images / image.name).write_bytes(image.read_bytes())
    values = {'CHECKPOINT': ['first/iter_2.pth'], 'IMAGE': [min(images.iterdir())], 'IMAGES': [images], 'SMALL': small}
    words, places = COMMANDS[command]
    arguments = [part for word in words for part in values.get(word, [word])]
    for name, contents in attacks(sound, places).items():
        torch.save(contents, 'first/iter_2.pth')
        for folder in ('out', 'work'):
            shutil.rmtree(folder, ignore_errors=True)
        capsys.readouterr()
        status = doctor(arguments) if command == 'doctor' else tool(command.split()[0], *arguments)
        out, err = capsys.readouterr()
        errors = [line for line in err.splitlines() if line.startswith('error: ')]
        assert 'Traceback' not in out + err, (name, err)
        assert (status, len(errors)) in ((0, 0), (1, 1)) or command == 'doctor', (name, status, err)
        assert not any({'ran', 'written'} & {*files, *folders} for _, folders, files in os.walk(tmp_path)), name
        assert name != 'sound' or status == 0, err
        assert 'pickle' not in name or 'more than data' in out + err, name
