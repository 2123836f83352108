"""A checkpoint made to harm, given to `train --resume`: no file outside is touched, and it ends in one sentence."""
from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.engine.resumed_state import (
    checked_counters,
    checked_message_hub,
    checked_numpy_state,
)
from tests.kit import DIGITS_CONFIG

Tool = Callable[..., int]


def hub(**info: Any) -> dict[str, Any]:
    return {'log_scalars': {'train/loss': HistoryBuffer([1., 2.], [1, 1])}, 'runtime_info': info,
            'resumed_keys': {'train/loss': True, 'gone': True}}


def test_files_are_names_in_the_work_dir() -> None:
    info = checked_message_hub(hub(best_ckpt='/elsewhere/best_coco_bbox_mAP_iter_4.pth', keep_ckpt_ids=[2, 4],
                                   stopped_ckpt='iter_7.pth', best_score=np.float64(0.5), mine=[1]), 7)['runtime_info']
    assert info == {'best_ckpt': 'best_coco_bbox_mAP_iter_4.pth', 'keep_ckpt_ids': [2, 4], 'stopped_ckpt': 'iter_7.pth',
                    'best_score': 0.5, 'mine': [1]}
    outdated = ['/x/iter_2.pth', 'best_m_iter_4.pth', '../../train.json', '/home/me', 'iter_x.pth', '..', 3]
    for value, names in ((outdated, ['iter_2.pth', 'best_m_iter_4.pth']), ('iter_2.pth', []), (None, [])):
        assert checked_message_hub(hub(outdated_ckpts=value), 7)['runtime_info'] == {'outdated_ckpts': names}
    for stopped in ('/etc/passwd', '../iter_7.pth', 'iter_6.pth', 7, None):
        assert 'stopped_ckpt' not in checked_message_hub(hub(stopped_ckpt=stopped), 7)['runtime_info']


@pytest.mark.parametrize('info', [
    {'best_ckpt': '/home/me'}, {'best_ckpt_coco/bbox_mAP': 'iter_4.pth'}, {'best_ckpt': 5}, {'best_ckpt': '..'},
    {'keep_ckpt_ids': ['/../../x']}, {'keep_ckpt_ids': 3}, {'best_score': 'x'}, {'eta': 'soon'},
])
def test_other_information_is_malformed(info: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f'^{next(iter(info))} is not '):
        checked_message_hub(hub(**info), 4)


@pytest.mark.parametrize('content', [
    None, [], {}, {**hub(), 'runtime_info': {3: 4}}, {**hub(), 'log_scalars': {'train/loss': 3}},
    {**hub(), 'log_scalars': {'train/loss': HistoryBuffer([[1.]], [[1]])}},
])
def test_other_hubs_are_malformed(content: Any) -> None:
    with pytest.raises(ValueError, match='message_hub'):
        checked_message_hub(content, 4)


def test_log_buffers_are_made_anew() -> None:
    """One from a file may have attributes of its own."""
    content = hub()
    content['log_scalars']['train/loss'].mean = 'x'
    checked = checked_message_hub(content, 4)
    assert checked['log_scalars']['train/loss'].mean() == 1.5
    assert checked['resumed_keys'] == {'train/loss': True}


def test_counters_and_random_states() -> None:
    assert checked_counters({'a': 1, 'b': 2., 'after_val_epoch': 'x'}, ('a', 'b')) == {'a': 1, 'b': 2.}
    with pytest.raises(ValueError, match='the counters a, b'):
        checked_counters({'a': 1, 'b': 'x'}, ('a', 'b'))
    kind, keys, *rest = np.random.RandomState(0).get_state()
    words = torch.from_numpy(np.array(keys, np.int64))
    random = np.random.RandomState(1)
    random.set_state(checked_numpy_state([kind, words, *rest]))
    assert random.rand() == np.random.RandomState(0).rand()
    for position in (-1, 625, 10 ** 8, 1.5):  # NumPy would read memory there
        with pytest.raises(ValueError, match='random state of NumPy'):
            checked_numpy_state([kind, words, position, *rest[1:]])


# Place -> value that a file of pure data may have there.
MALFORMED: list[tuple[str, Any]] = [
    ('meta.iter', -5), ('meta.iter', 1 << 70), ('meta.seed', 'x'), ('meta.seed', -1), ('optimizer', {}),
    ('optimizer.param_groups', []), ('optimizer.state', {0: {'exp_avg': torch.zeros(3), 'step': 1}}),
    ('message_hub', {}), ('message_hub.runtime_info.keep_ckpt_ids', 'x'), ('message_hub.runtime_info.best_score', 'x'),
    ('param_schedulers', 'x'), ('param_schedulers', [1, 2]), ('training_state', 5),
    ('training_state.random.numpy', ['MT19937', torch.zeros(624), 10 ** 8, 0, 0.]),
    ('training_state.random.torch', torch.zeros(3)), ('training_state.random.python', (3, (1, 2), None)),
    ('training_state.validated', 'x'), ('training_state.gradients', 3), ('state_dict', {0: torch.zeros(1)}),
]


@pytest.fixture(scope='module')
def once(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Filled by the first test that trains."""
    return {}


@pytest.fixture
def trained(once: dict[str, Any], tool: Tool, small: list[str]) -> dict[str, Any]:
    """The contents of a checkpoint of iteration 2."""
    if not once:
        assert tool('train', DIGITS_CONFIG, '--work-dir', 'first', *small, 'train_cfg.max_iters=2') == 0
        once.update(read_checkpoint('first/iter_2.pth'))
    return copy.deepcopy(once)


def resume(tool: Tool, small: list[str], contents: dict[str, Any], *options: str) -> int:
    torch.save(contents, 'hostile.pth')
    return tool('train', DIGITS_CONFIG, '--work-dir', 'work', '--resume', 'hostile.pth', *small, *options)


@pytest.mark.slow
def test_malformed_states_are_one_sentence(tool: Tool, small: list[str], trained: dict[str, Any],
                                           capsys: pytest.CaptureFixture) -> None:
    for place, value in MALFORMED:
        contents = copy.deepcopy(trained)
        *folders, name = place.split('.')
        part = contents
        for key in folders:
            part = part[key]
        part[name] = value
        capsys.readouterr()
        assert resume(tool, small, contents) == 1, place
        printed = capsys.readouterr().err.splitlines()
        assert len([line for line in printed if line.startswith('error: ')]) == 1, (place, printed)
        assert 'hostile.pth' in printed[-1], (place, printed)


@pytest.mark.slow
@pytest.mark.parametrize('save_best', ['coco/bbox_mAP', '["coco/bbox_mAP","coco/bbox_mAP_50"]'])
def test_files_that_it_names_stay(tool: Tool, small: list[str], trained: dict[str, Any], tmp_path: Path,
                                  save_best: str) -> None:
    """mmengine removes checkpoints that are no longer the best or the last, wherever they are."""
    folder = tmp_path / 'best_mine.pth'
    folder.mkdir()
    victims = [tmp_path / 'precious.txt', tmp_path / 'best_other.pth', folder / 'x', tmp_path / 'work' / 'notes.txt']
    for victim in victims:
        victim.parent.mkdir(exist_ok=True)
        victim.write_text('precious')
    info = trained['message_hub']['runtime_info']
    info.update({'stopped_ckpt': str(victims[0]), 'best_ckpt': str(victims[1]), 'best_score': -2.,
                 'best_ckpt_coco/bbox_mAP': str(folder), 'best_score_coco/bbox_mAP': -2.,
                 'best_ckpt_coco/bbox_mAP_50': str(victims[1]), 'best_score_coco/bbox_mAP_50': -2.})
    trained['message_hub']['resumed_keys'].update(dict.fromkeys(info, True))
    assert resume(tool, small, trained, f'default_hooks.checkpoint.save_best={save_best}',
                  'default_hooks.checkpoint.rule=greater') == 0
    assert all(victim.read_text() == 'precious' for victim in victims)
    assert (tmp_path / 'work/iter_4.pth').is_file() and list((tmp_path / 'work').glob('best_*.pth'))
