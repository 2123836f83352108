"""The time of the training pipeline, by a clock that ticks once a look."""
import itertools
from types import SimpleNamespace

from mmengine.config import Config

from sparse_rcnn_mm.benchmark import loader
from sparse_rcnn_mm.own_data.config import set_training_data
from tests.kit.data_sets import one_image_folder

from ..models.samples import ROOT


def test_every_step_of_every_image_is_timed(tmp_path, monkeypatch) -> None:
    one_image_folder(tmp_path)
    cfg = Config.fromfile(ROOT / 'configs' / 'sparse_rcnn_r50_3x.py')
    cfg.work_dir = str(tmp_path / 'work')
    set_training_data(cfg, str(tmp_path))
    ticks = itertools.count()
    monkeypatch.setattr(loader, 'time', SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    seconds = loader.seconds_by_transform(cfg, images=4)
    assert seconds == dict.fromkeys(['LoadRGBImage', 'LoadAnnotations', 'RandomFlip', 'ResizeShortSide', 'ClipBoxes',
                                     'PackDetInputs'], 1.)
    assert next(ticks) == 4 * 6 * 2
    table = loader.loader_table({'LoadRGBImage': 0.005, 'ResizeShortSide': 0.015})
    assert '50.0 images / s' in table and '| ResizeShortSide | 15.0 | 75% |' in table
