"""tools/analyze.py from a checkpoint alone, and from detections that were kept."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_rcnn_mm.evaluation.records import by_image, read_predictions
from tests.kit import DIGITS_CONFIG
from tests.kit.data_sets import write_squares


def test_testing_and_reading_results_give_the_same_page(tool: Callable[..., int], small: list[str], tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *small) == 0
    assert tool('analyze', 'work/iter_4.pth', '--worst', '2') == 0
    assert tool('analyze', 'work/iter_4.pth', '--worst', '2', '--out-dir', 'again',
                '--results', 'work/analysis/predictions.pkl') == 0
    first, again = (json.loads((tmp_path / folder / 'analysis.json').read_text())
                    for folder in ('work/analysis', 'again'))
    assert first == again
    assert first['images'] == 4
    assert len(first['worst_images']) == 2
    assert (tmp_path / 'again/analysis.html').read_text().count('data:image/jpeg') == 2
    capsys.readouterr()
    assert tool('analyze', 'work/iter_4.pth', '--results', 'none.pkl') == 1
    assert 'results file not found: none.pkl' in capsys.readouterr().err


@pytest.mark.slow
def test_other_data_are_analyzed_as_they_are_tested(tool: Callable[..., int], small: list[str], tmp_path: Path,
                                                    capsys: pytest.CaptureFixture) -> None:
    """`--data`: the classes are the model's, whatever the folder's order; the detections are those of tools/test.py."""
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'work', *small) == 0
    data = write_squares(tmp_path / 'mine', ['7', 'emu', '2'], ('val',))
    assert tool('analyze', 'work/iter_4.pth', '--data', str(data), '--out-dir', 'seen') == 0
    assert 'boxes of classes that the model does not know are skipped: emu' in capsys.readouterr().out
    assert tool('test', 'work/iter_4.pth', '--data', str(data), '--out', 'tested.pkl') == 0
    assert [path.name for path in (tmp_path / 'work').glob('*.py')] == ['sparse_rcnn_r18_digits.py']
    numbers = json.loads((tmp_path / 'seen/analysis.json').read_text())
    assert (numbers['images'], list(numbers['classes'])) == (4, list('0123456789'))
    assert {name: row['boxes'] for name, row in numbers['classes'].items() if row['boxes']} == {'2': 1, '7': 1}
    seen, tested = (by_image(read_predictions(tmp_path / path)) for path in ('seen/predictions.pkl', 'tested.pkl'))
    assert list(seen) == list(tested) == [1, 2, 3, 4]
    for image_id, found in seen.items():
        assert all(found[key].equal(tested[image_id][key]) for key in ('bboxes', 'scores', 'labels'))
