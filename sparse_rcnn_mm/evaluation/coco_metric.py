"""The COCO metric, with files checked before training and classes matched by name."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mmdet.evaluation.metrics.coco_metric as mmdet_metric
import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.dist import collect_results
from mmengine.logging import MMLogger

from sparse_rcnn_mm.datasets.coco_columns import INVALID, WITHOUT_MASK, CocoColumns
from sparse_rcnn_mm.datasets.coco_json import full_path
from sparse_rcnn_mm.datasets.column_cache import read_columns
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import METRICS

from .coco_api import coco_api
from .mask_truth import mask_truth
from .waiting import on_main_process


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's metric with the same arguments, but classes are matched by name, whatever their order in the file.

    (mmdet uses the order in the file, and with `classwise` the order of the category ids.) The ground truth comes from
    the columns that the data set reads. Only the main process builds pycocotools' index of it.

    Raises:
        UserError: the annotation file is missing, malformed or lacks a class of the data set, or with 'segm' has an
            invalid segmentation (raised before training); or it lacks an image of the data set (raised at the first
            batch).
    """

    def __init__(self, ann_file: str | None = None, **options: Any) -> None:
        super().__init__(None, **options)
        self._masks = 'segm' in self.metrics
        self._path = '' if ann_file is None else full_path(ann_file)
        self._columns = columns = None if ann_file is None else read_columns(
            ann_file, True, 'set --cfg-options val_evaluator.ann_file=FILE (for testing test_evaluator.ann_file) to '
            'the annotations of the evaluated data set', self.backend_args, self._masks)
        if columns is not None and self._masks:
            on_main_process(lambda: bool(self._ground_truth(columns)), 'check of the masks')
        self._coco_api = self._columns  # if this were None, mmdet would take the ground truth from the samples

    @property
    def dataset_meta(self) -> dict | None:
        """The metainfo of the data set. The evaluator sets it."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        if self._columns is not None:
            self._ids_of_classes(self._columns)

    def process(self, data_batch: dict, data_samples: Sequence[Mapping]) -> None:
        """Store the predictions of a batch."""
        known = None if self._columns is None else self._columns.known_ids
        for sample in data_samples:
            if known is not None and sample['img_id'] not in known:
                raise UserError(f"the evaluator's annotation file {self._path} has no image with the id "
                                f'{sample["img_id"]}, which the data set has: set the same file for both')
        super().process(data_batch, data_samples)

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the metrics on the main process and return them on all, without a time limit."""
        results = collect_results(self.results, size, self.collect_device, self.collect_dir)
        self.results.clear()
        found = on_main_process(lambda: self.compute_metrics(results), 'evaluation')
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in found.items()}

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Compute the metrics from (ground truth, prediction) pairs of all images."""
        if self._columns is None:
            return super().compute_metrics([*map(_with_mask_truth, results)] if self._masks else results)
        # pycocotools sorts by category id, so labels are renumbered by id: then tables by class are also correct
        ids = self._ids_of_classes(self._columns)
        rank = np.argsort(np.argsort(ids))
        self.cat_ids = sorted(ids)
        results = [(truth, {**found, 'labels': rank[found['labels']]}) for truth, found in results]
        if self._masks and (count := np.count_nonzero(self._columns.flags & (INVALID | WITHOUT_MASK))):
            MMLogger.get_current_instance().info(f'{count} boxes without a mask are ignored regions in this evaluation')
        self._coco_api = self._ground_truth(self._columns)
        try:
            return super().compute_metrics(results)
        finally:
            self._coco_api = self._columns  # frees the index, which is large

    def _ground_truth(self, columns: CocoColumns) -> COCO:
        try:
            return coco_api(columns, self._masks)
        except UserError as error:
            raise UserError(f"the evaluator's annotation file {self._path}: {error}") from error

    def _ids_of_classes(self, columns: CocoColumns) -> list[int]:
        """The category id of every label in the file."""
        ids = {category['name']: category['id'] for category in columns.header['categories']}
        missing = [name for name in self._dataset_meta['classes'] if name not in ids]
        if missing:
            raise UserError(f"the evaluator's annotation file {self._path} has no category {missing[0]!r}, which is a "
                            'class of the data set: set the same file for both')
        return [ids[name] for name in self._dataset_meta['classes']]


def _with_mask_truth(result: tuple[dict, dict]) -> tuple[dict, dict]:
    """Replace the masks of a (ground truth, prediction) pair as `mask_truth` does."""
    truth, found = result
    image = {'id': truth['img_id'], 'width': truth['width'], 'height': truth['height']}
    annotations = [{'id': number, 'image_id': image['id'], 'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'iscrowd': instance.get('ignore_flag', 0), 'segmentation': instance.get('mask')}
                   for number, instance in enumerate(truth.get('anns', ()), start=1)
                   for x1, y1, x2, y2 in [instance['bbox']]]
    masks = mask_truth({'images': [image], 'annotations': annotations})
    return {**truth, 'anns': [{**instance, 'mask': one['segmentation'], 'ignore_flag': one['iscrowd']}
                              for instance, one in zip(truth.get('anns', ()), masks, strict=True)]}, found


@METRICS.register_module()
class FasterCocoMetric(CocoMetric):
    """The same numbers in less time, by the optional package faster-coco-eval (`pip install faster-coco-eval`)."""

    def __init__(self, ann_file: str | None = None, **options: Any) -> None:
        try:
            from faster_coco_eval import COCOeval_faster
        except ImportError as error:
            raise UserError('FasterCocoMetric needs faster-coco-eval: pip install faster-coco-eval, or use CocoMetric '
                            'in val_evaluator.type and test_evaluator.type') from error
        self._evaluation = COCOeval_faster
        super().__init__(ann_file, **options)

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Compute the metrics from (ground truth, prediction) pairs of all images."""
        with _replaced(mmdet_metric, 'COCOeval', self._evaluation):
            return super().compute_metrics(results)


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace a name in a module temporarily: the only way to change the evaluator class in mmdet's long method."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
