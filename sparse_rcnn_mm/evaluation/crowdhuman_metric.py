"""The metrics of CrowdHuman for training and testing, and for files of detections."""
from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import collect_results
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import METRICS

from .crowd_files import CrowdImage, read_truth
from .crowd_scores import CrowdScores
from .jaccard_index import jaccard_index
from .waiting import on_main_process


def crowd_metrics(images: Sequence[CrowdImage]) -> dict[str, float]:
    """Compute AP, mMR, recall and JI as fractions. Higher is better, except for mMR."""
    scores = CrowdScores.of(images)
    return {'AP': scores.ap, 'mMR': scores.miss_rate, 'recall': scores.recall, 'JI': jaccard_index(images)[0]}


@METRICS.register_module()
class CrowdHumanMetric(BaseMetric):
    """AP, mMR and recall of the authors' CrowdHuman evaluation, and JI; see `crowd_scores` and `jaccard_index`.

    Args:
        ann_file: COCO annotations with one category. Crowd boxes are ignored regions.
        outfile_prefix: if given, detections go to OUTFILE_PREFIX.bbox.json as COCO results.

    Raises:
        UserError: the annotation file is missing, malformed or has several categories, raised before training; or the
            data set has several classes or other images.
    """
    default_prefix = 'crowdhuman'

    def __init__(self, ann_file: str, *, outfile_prefix: str | None = None, backend_args: dict | None = None,
                 collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._outfile_prefix = outfile_prefix
        self._truth = read_truth(
            ann_file, 'set --cfg-options val_evaluator.ann_file=FILE (for testing test_evaluator.ann_file) to the '
            "annotations of the evaluated data set; 'sparse-rcnn crowd convert' makes them of CrowdHuman's odgt files",
            backend_args)

    def process(self, data_batch: dict, data_samples: Sequence[Mapping]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples:
            found = sample['pred_instances']
            self.results.append((sample['img_id'], _array(found['bboxes']), _array(found['scores'])))

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics on all processes. The main process computes them."""
        results = collect_results(self.results, size, self.collect_device)
        self.results.clear()
        found = on_main_process(lambda: self.compute_metrics(results), 'evaluation')
        return {f'{self.prefix}/{name}': value for name, value in found.items()}

    def compute_metrics(self, results: list[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Compute the metrics from (image id, boxes, scores) of all images."""
        classes = self.dataset_meta['classes'] if self.dataset_meta else ()
        if len(classes) > 1:
            raise UserError(f'CrowdHumanMetric is for one class, and the data set has {len(classes)}: take CocoMetric '
                            'in val_evaluator.type and test_evaluator.type')
        found = {image_id: (boxes, scores) for image_id, boxes, scores in results}
        images = self._truth.with_detections(found)
        if self._outfile_prefix:
            self._write(found)
        metrics = crowd_metrics(images)
        MMLogger.get_current_instance().info(said(images, metrics))
        return metrics

    def _write(self, found: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        path = Path(f'{self._outfile_prefix}.bbox.json')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([
            {'image_id': image_id, 'category_id': self._truth.category['id'],
             'bbox': [x1, y1, x2 - x1, y2 - y1], 'score': score}
            for image_id, (boxes, scores) in found.items()
            for (x1, y1, x2, y2), score in zip(boxes.tolist(), scores.tolist(), strict=True)]))


def said(images: Sequence[CrowdImage], metrics: Mapping[str, float]) -> str:
    """Format the metrics in percent, and what they were computed on, in one line."""
    values = ', '.join(f'{name} {"nan" if math.isnan(value) else f"{100 * value:.2f}"}'
                       for name, value in metrics.items())
    annotated = sum(image.annotated for image in images)
    objects = sum(int((~image.gt_ignored).sum()) for image in images)
    stray = sum(len(image.boxes) for image in images if not image.annotated)
    more = f'; {stray} detections on images without annotations count as wrong' if stray else ''
    return f'{values} (percent) on {objects} objects in {annotated} annotated images{more}'


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.cpu() if hasattr(values, 'cpu') else values, dtype=np.float64)
