"""Sparse R-CNN (arXiv 2011.12450) as an extension of MMDetection.

    detections = sparse_rcnn_mm.Detector.from_checkpoint('sparse_rcnn_r50_3x')('photo.jpg')
    best = sparse_rcnn_mm.train('sparse_rcnn_r50_finetune', 'my_data', load_from='sparse_rcnn_r50_3x')
    metrics = sparse_rcnn_mm.evaluate(best, 'my_data')
"""
from typing import TYPE_CHECKING

from .lazy import lazy
from .stack import prepare
from .versions import __version__

if TYPE_CHECKING:
    from .engine import evaluate as evaluate
    from .engine import train as train
    from .inference import Detector as Detector

__all__ = ['Detector', '__version__', 'evaluate', 'train']
__getattr__ = lazy(__name__, {'Detector': 'inference', 'evaluate': 'engine', 'train': 'engine'})

prepare()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
