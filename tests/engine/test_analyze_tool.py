"""tools/analyze.py from a checkpoint alone, and from detections that were kept."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import DIGITS_CONFIG


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
    assert 'there is no results file none.pkl' in capsys.readouterr().err
