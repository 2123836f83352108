"""The COCO metric, with files checked before training and classes matched by name."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric as MMDetCocoMetric

from sparse_rcnn_mm.datasets.coco_json import full_path, read_coco_json
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's metric and its arguments; labels number the classes of the data set, in whatever order the file has them.

    mmdet takes the categories in the order of the file, and with `classwise` in the order of their ids.

    Raises:
        UserError: the annotation file is missing, malformed or without a class of the data set, said before training,
            or without an image of the data set, said at the first batch.
    """

    def __init__(self, ann_file: str | None = None, **options: Any) -> None:
        self._path = '' if ann_file is None else full_path(ann_file)
        if ann_file is not None:
            read_coco_json(ann_file, True, 'set --cfg-options val_evaluator.ann_file=FILE (for testing test_evaluator'
                           '.ann_file) to the annotations of the evaluated data set', options.get('backend_args'))
        super().__init__(ann_file, **options)

    @property
    def dataset_meta(self) -> dict | None:
        """What the data set says of itself; the evaluator sets it when it is built."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        if self._coco_api is not None:
            self._ids_of_classes()

    def process(self, data_batch: dict, data_samples: Sequence[Mapping]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples if self._coco_api is not None else []:
            if sample['img_id'] not in self._coco_api.imgs:
                raise UserError(f"the evaluator's annotation file {self._path} has no image with the id "
                                f'{sample["img_id"]}, which the data set has: set the same file for both')
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """The metrics of (ground truth, predictions) of all images."""
        if self._coco_api is not None:
            # pycocotools sorts category ids, so labels are renumbered by id: tables by class are right, too
            ids = self._ids_of_classes()
            rank = np.argsort(np.argsort(ids))
            self.cat_ids = sorted(ids)
            results = [(truth, {**found, 'labels': rank[found['labels']]}) for truth, found in results]
        return super().compute_metrics(results)

    def _ids_of_classes(self) -> list[int]:
        """The file's category id of every label."""
        ids = {str(category['name']): category['id'] for category in self._coco_api.cats.values()}
        missing = [name for name in self._dataset_meta['classes'] if name not in ids]
        if missing:
            raise UserError(f"the evaluator's annotation file {self._path} has no category {missing[0]!r}, which is a "
                            'class of the data set: set the same file for both')
        return [ids[name] for name in self._dataset_meta['classes']]
