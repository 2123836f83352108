"""The curves of several trainings: their lines hold the logged numbers."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparse_rcnn_mm.cli.compare_curves import main
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.comparison.curves import best_lines, draw_curves, read_histories


def work_dir(folder: Path, losses: list[float], aps: list[float], val_loss: float | None = None) -> str:
    """A training with a line of the log each ten iterations, and validations from the first one on."""
    rows: list[dict[str, float]] = []
    for index, loss in enumerate(losses, start=1):
        rows.append({'step': 10 * index, 'loss': loss, 'lr': 0.1})
        if index <= len(aps):
            rows.append({'step': 10 * index, 'coco/bbox_mAP': aps[index - 1]})
            if val_loss is not None:
                rows[-1]['val_loss'] = val_loss
    log = folder / 'run' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('\n'.join(map(json.dumps, rows)))
    return str(folder)


def test_more_trainings_than_colors(tmp_path: Path) -> None:
    histories = read_histories([work_dir(tmp_path / f'{number}', [2, 1], [0.1, 0.2]) for number in range(23)])
    axis = draw_curves(histories).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines if len(line.get_xdata())}) == 23


def test_each_plot_has_a_line_for_each_training(tmp_path: Path) -> None:
    histories = read_histories([work_dir(tmp_path / 'a', [3, 2, 1], [0.1, 0.4, 0.3]),
                                work_dir(tmp_path / 'b', [5, 4], [0.2, 0.25], 7)])
    assert best_lines(histories) == ['a: 30 iterations, AP 0.400 at 20',
                                     'b: 20 iterations, AP 0.250 at 20, validation loss 7.000 at 10']
    plots = {axis.get_title(): axis for axis in draw_curves(histories).axes if axis.get_visible()}
    assert list(plots) == ['AP', 'validation loss', 'training loss', 'learning rate']
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in plots['training loss'].lines]
    assert lines == [([10, 20, 30], [3, 2, 1]), ([10, 20], [5, 4])]
    assert [len(line.get_xdata()) for line in plots['validation loss'].lines] == [0, 2]


def test_the_picture_is_written_and_what_is_no_training_is_named(tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture) -> None:
    a, b = (work_dir(tmp_path / name, [3, 2], []) for name in 'ab')
    assert main([a, b, '--out', str(tmp_path / 'new' / 'both.png')]) == 0
    assert (tmp_path / 'new' / 'both.png').stat().st_size > 1000
    assert 'b: 20 iterations' in capsys.readouterr().out
    (tmp_path / 'none').mkdir()
    for given, said in (([a, str(tmp_path / 'none')], 'holds no logs'), ([a, f'{a}/../a'], 'was given twice'),
                        ([a, str(tmp_path / 'missing')], 'there is no folder'), ([a, '--out', 'x.txt'], 'ends with')):
        with pytest.raises(UserError, match=said):
            main(given)


@pytest.mark.parametrize('line', [
    '5', '[]', 'null', '{}', '{"step": "x"}', '{"step": null}', '{"step": 1e999, "loss": 1}', '{"step": -5, "loss": 1}',
    '{"step": ' + '9' * 400 + ', "loss": 1}', '{"step": ' + '9' * 5000 + '}', '{"step": 5, "loss": 1e300}', '[' * 99999,
    '\xff\xfe', '{"step": 5, "loss": -Infinity}',
], ids=lambda line: line[:30])
def test_lines_that_are_no_numbers_are_skipped_and_counted(line: str, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture) -> None:
    folder = work_dir(tmp_path / 'a', [3, 2], [0.1])
    (log,) = Path(folder).glob('*/vis_data/scalars.json')
    log.write_bytes(log.read_bytes() + b'\n' + line.encode('latin1'))
    assert main([folder, '--out', str(tmp_path / 'x.png')]) == 0
    printed = capsys.readouterr()
    assert '1 lines of the logs cannot be read' in printed.err and '20 iterations, AP 0.100 at 10' in printed.out


def test_values_that_are_text_are_left_out(tmp_path: Path) -> None:
    folder = work_dir(tmp_path / 'a', [3, 2], [0.1])
    (log,) = Path(folder).glob('*/vis_data/scalars.json')
    with log.open('a') as file:
        file.write('\n{"step": 30, "loss": 1.5, "lr": "fast", "coco/bbox_mAP": null, "x": [1]}')
    history = read_histories([folder])['a']
    assert history.series('loss') == ([10, 20, 30], [3, 2, 1.5]) and history.series('lr')[0] == [10, 20]
    assert draw_curves({'a': history}).axes
