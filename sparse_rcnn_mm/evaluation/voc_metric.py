"""The metric of Pascal VOC for training and testing."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import collect_results
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from pycocotools import mask as rle_codec

from sparse_rcnn_mm.datasets.coco_columns import CROWD, IGNORED, CocoColumns
from sparse_rcnn_mm.datasets.column_cache import read_columns
from sparse_rcnn_mm.datasets.masks import encode_segmentation, lacks_mask, run_lengths
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import METRICS

from .voc_scores import ImageOverlaps, VocScores, voc_scores
from .waiting import on_main_process

KINDS = ('bbox', 'segm')


class Found(NamedTuple):
    """The detections of one image."""
    image_id: int
    boxes: np.ndarray  # (D, 4)
    scores: np.ndarray  # (D,)
    labels: np.ndarray  # (D,)
    masks: list[dict[str, Any]] | None  # run lengths


@METRICS.register_module()
class PascalVocMetric(BaseMetric):
    """Mean average precision of the Pascal VOC challenge, by area and by 11 points; see `voc_scores`.

    Objects marked as difficult, which are crowds in COCO annotations, are left out.

    Args:
        ann_file: COCO annotations. In those that this package writes, boxes are pixel edges, so an IoU of boxes equals
            that of the challenge, whose corners are pixels.
        metric: 'bbox', 'segm' or a list of both. With 'segm', boxes without a mask are left out like difficult ones.
        iou_thr: the least IoU of a correct detection.

    Raises:
        UserError: the annotation file is missing, malformed or lacks a class of the data set, or with 'segm' has an
            invalid segmentation.
    """
    default_prefix = 'voc'

    def __init__(self, ann_file: str, *, metric: str | Sequence[str] = 'bbox', iou_thr: float = 0.5,
                 backend_args: dict | None = None, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._kinds = [metric] if isinstance(metric, str) else list(metric)
        if wrong := [kind for kind in self._kinds if kind not in KINDS]:
            raise UserError(f"metric of PascalVocMetric must be 'bbox', 'segm' or a list of both, not {wrong[0]!r}")
        self._path, self._iou_thr = ann_file, iou_thr
        self._columns = read_columns(ann_file, False, 'set --cfg-options val_evaluator.ann_file=FILE (for testing '
                                     'test_evaluator.ann_file) to the annotations of the evaluated data set',
                                     backend_args, 'segm' in self._kinds)
        if 'segm' in self._kinds:
            on_main_process(self._check_masks, 'check of the masks')

    def _check_masks(self) -> None:
        try:
            for image in range(len(self._columns)):
                _Truth.of(self._columns, image, 'segm')
        except UserError as error:
            raise UserError(f"the evaluator's annotation file {self._path}: {error}") from error

    def process(self, data_batch: dict, data_samples: Sequence[Mapping]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples:
            found = sample['pred_instances']
            masks = None
            if 'segm' in self._kinds:
                if 'masks' not in found:
                    raise UserError("the model predicts no masks: set metric='bbox' for PascalVocMetric")
                masks = [run_lengths(np.asarray(mask)) for mask in found['masks']]
            boxes, scores, labels = (np.asarray(found[name].cpu()) for name in ('bboxes', 'scores', 'labels'))
            self.results.append(Found(sample['img_id'], boxes, scores, labels, masks))

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics on all processes. The main process computes them."""
        results = collect_results(self.results, size, self.collect_device)
        self.results.clear()
        found = on_main_process(lambda: self.compute_metrics(results), 'evaluation')
        return {f'{self.prefix}/{name}': value for name, value in found.items()}

    def compute_metrics(self, results: list[Found]) -> dict[str, float]:
        """Compute the metrics from the detections of all images."""
        classes = self.dataset_meta['classes'] if self.dataset_meta else ()
        names = [category['name'] for category in self._columns.header['categories']]
        if missing := [name for name in classes if name not in names]:
            raise UserError(f"the evaluator's annotation file {self._path} has no category {missing[0]!r}, which is a "
                            'class of the data set: set the same file for both')
        by_image = {found.image_id: found for found in results}
        if unknown := set(by_image) - self._columns.known_ids:
            raise UserError(f"the evaluator's annotation file {self._path} has no image with the id {min(unknown)}, "
                            'which the data set has: set the same file for both')
        metrics: dict[str, float] = {}
        for kind in self._kinds:
            truths = [(by_image[image_id], _Truth.of(self._columns, image, kind))
                      for image, image_id in enumerate(self._columns.image_ids.tolist()) if image_id in by_image]
            scores = {name: voc_scores([truth.overlaps(found, label, names.index(name)) for found, truth in truths],
                                       self._iou_thr) for label, name in enumerate(classes)}
            MMLogger.get_current_instance().info(table(scores, kind, self._iou_thr))
            name = f'{kind}_AP{round(100 * self._iou_thr)}'
            metrics |= {name: _mean(one.area for one in scores.values()),
                        f'{name}_11points': _mean(one.eleven_points for one in scores.values())}
        return metrics


class _Truth(NamedTuple):
    """The objects (G) of one image."""
    shapes: list[Any]  # boxes x, y, width, height, or run lengths
    categories: np.ndarray  # (G,) index into the categories of the file
    difficult: np.ndarray  # (G,) bool

    @classmethod
    def of(cls, columns: CocoColumns, image: int, kind: str) -> _Truth:
        rows = columns.annotations(image)
        difficult = columns.flags[rows] & (CROWD | IGNORED) != 0
        if kind == 'bbox':
            return cls(columns.boxes[rows].tolist(), columns.categories[rows], difficult)
        masks = [_mask(columns.segmentation(row), columns.annotation_ids[row], columns.sizes[image])
                 for row in range(rows.start, rows.stop)]
        empty = np.array([rle_codec.area(mask) == 0 for mask in masks], bool)
        return cls(masks, columns.categories[rows], difficult | empty)

    def overlaps(self, found: Found, label: int, category: int) -> ImageOverlaps:
        """Compare the detections and the objects of a class."""
        mine, its = np.flatnonzero(found.labels == label), np.flatnonzero(self.categories == category)
        shapes = [self.shapes[index] for index in its]
        if isinstance(next(iter(self.shapes), None), dict):
            assert found.masks is not None
            detections: list[Any] = [found.masks[index] for index in mine]
        else:
            x1, y1, x2, y2 = found.boxes[mine].T.astype(float)
            detections = np.stack([x1, y1, x2 - x1, y2 - y1], 1).tolist()
        iou = np.reshape(rle_codec.iou(detections, shapes, [0] * len(shapes)), (len(mine), len(its)))
        return ImageOverlaps(found.scores[mine].astype(float), iou, self.difficult[its])


def _mask(segmentation: Any, annotation_id: int, size: np.ndarray) -> dict[str, Any]:
    """Run lengths of a segmentation; of nothing, if there is none."""
    width, height = size.tolist()
    if lacks_mask(segmentation):
        segmentation = {'size': [height, width], 'counts': [int(height * width)]}
    try:
        return encode_segmentation(segmentation, height, width)
    except ValueError as error:
        raise UserError(f'annotation {annotation_id}: its segmentation {error}') from error


def table(scores: Mapping[str, VocScores], kind: str, iou_thr: float) -> str:
    """A table with a row for each class."""
    width = max([len(name) for name in scores] + [len('class')]) + 2
    lines = [f'Pascal VOC, IoU {iou_thr:g}, {"masks" if kind == "segm" else "boxes"}, in percent',
             f'{"class":{width}}{"objects":>8}{"AP":>8}{"11 points":>12}']
    lines += [f'{name:{width}}{one.objects:8}{100 * one.area:8.2f}{100 * one.eleven_points:12.2f}'
              for name, one in scores.items()]
    means = [100 * _mean(values) for values in ((one.area for one in scores.values()),
                                                (one.eleven_points for one in scores.values()))]
    lines.append(f'{"mean":{width}}{sum(one.objects for one in scores.values()):8}{means[0]:8.2f}{means[1]:12.2f}')
    return '\n'.join(lines)


def _mean(values: Any) -> float:
    """The mean over the classes that have objects; NaN if none has."""
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float('nan')
