"""The COCO data set, filtered as the official code filters it."""
from __future__ import annotations

import contextlib
import io
import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.dataset import force_full_init
from mmengine.logging import MMLogger

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATASETS
from sparse_rcnn_mm.terminal import shell_word

from .coco_columns import WITHOUT_MASK, CocoColumns
from .coco_json import full_path
from .column_cache import read_columns
from .masks import LoadMasks

with contextlib.redirect_stdout(io.StringIO()):  # onedl-mmdetection prints a notice
    from mmdet.datasets import CocoDataset as MMDetCocoDataset


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """Boxes of a COCO annotation file, filtered like detectron2's `load_coco_json` and the official mapper.

    Dropped are crowd boxes, boxes marked as `ignore`, and boxes whose polygons all have fewer than three points.
    Everything else is kept: thin boxes and boxes that reach beyond the image (the pipeline clips them and drops empty
    ones), and images without boxes, unless `filter_cfg` has `filter_empty_gt=True` or a `min_size`.
    Masks are kept if the pipeline has `LoadMasks`, and boxes without a mask are dropped then. Labels follow the order
    of `metainfo.classes`, whatever the order in the file.

    Files are checked when the data set is built, so that mistakes raise a `UserError` before training starts. The
    annotations are in the columns of `read_columns`, which all processes share; `get_data_info` builds the dict of one
    image from them.
    """

    _fully_initialized: bool
    _columns: CocoColumns
    _chosen: Sequence[int] | np.ndarray  # images of the columns, after filtering and `indices`

    HOW_TO_GET = ("'sparse-rcnn download coco' fetches COCO 2017 to data/coco (annotations, train2017, val2017); "
                  'for other data, set data_root, ann_file and data_prefix.img of the data set')

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        """Accept a single class as a plain string, and drop a palette with fewer colors than classes."""
        if metainfo and isinstance(metainfo.get('classes'), str) and not osp.isfile(metainfo['classes']):
            metainfo = {**metainfo, 'classes': (metainfo['classes'],)}
        merged = super()._load_metainfo(metainfo)
        merged['classes'] = tuple(str(name) for name in merged['classes'])
        if len(merged.get('palette', ())) < len(merged['classes']):
            merged.pop('palette', None)
        return merged

    def full_init(self) -> None:
        """Read, check and filter the annotations. Does nothing the second time."""
        if self._fully_initialized:
            return
        if self.proposal_file is not None:
            raise UserError(f'proposal_file of the data set is not supported, since proposals are learned: remove '
                            f'{self.proposal_file} from the config')
        self.with_masks = any(isinstance(step, LoadMasks) for step in self.pipeline.transforms)
        self._columns = read_columns(self.ann_file, self.test_mode, self.HOW_TO_GET, self.backend_args, self.with_masks)
        self._match_classes(self._columns.header['categories'])
        self._check_images(self._columns.header['first_image'])
        if self.with_masks:
            self._check_masks()
        self._chosen = self._filtered()
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def load_data_list(self) -> list[dict]:
        """The dicts of all images. Only for mmdet's interface; this class does not use it."""
        return [self.get_data_info(index) for index in range(len(self))]

    def _filtered(self) -> Sequence[int] | np.ndarray:
        """Apply `filter_cfg`. Unlike in mmdet, crowd boxes and boxes of other classes do not count as ground truth."""
        everything = range(len(self._columns))
        if self.test_mode or not self.filter_cfg:
            return everything
        kept = self._columns.sizes.min(1) >= self.filter_cfg.get('min_size', 0)
        if self.filter_cfg.get('filter_empty_gt', False):
            boxes = np.concatenate([[0], np.cumsum(self._labels(slice(None)) >= 0)])
            kept &= boxes[self._columns.starts[1:]] > boxes[self._columns.starts[:-1]]
        return np.flatnonzero(kept)

    def _labels(self, rows: slice) -> np.ndarray:
        """The labels of these annotations; -1 for dropped ones."""
        labels = self._label_of[self._columns.categories[rows]]
        dropped = self._columns.flags[rows] & (255 if self.with_masks else ~WITHOUT_MASK & 255)
        return np.where(dropped == 0, labels, -1)

    @force_full_init
    def __len__(self) -> int:
        return len(self._chosen)

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Dict of an image: `img_path`, `img_id`, `height`, `width`, `instances` (x1, y1, x2, y2), `sample_idx`."""
        columns, image = self._columns, int(self._chosen[idx])
        rows = columns.annotations(image)
        labels = self._labels(rows)
        boxes = columns.boxes[rows][labels >= 0]
        boxes[:, 2:] += boxes[:, :2]
        instances = [{'bbox': box, 'bbox_label': label, 'ignore_flag': 0}
                     for box, label in zip(boxes.tolist(), labels[labels >= 0].tolist(), strict=True)]
        if self.with_masks:
            for instance, row in zip(instances, (rows.start + np.flatnonzero(labels >= 0)).tolist(), strict=True):
                instance.update(mask=columns.segmentation(row), annotation_id=int(columns.annotation_ids[row]))
        width, height = columns.sizes[image].tolist()
        return {
            'img_path': osp.join(self._image_folder, columns.name(image)),
            'img_id': int(columns.image_ids[image]),
            'height': height,
            'width': width,
            'instances': instances,
            'sample_idx': idx if idx >= 0 else len(self) + idx,
        }

    @force_full_init
    def get_cat_ids(self, idx: int) -> list[int]:
        """The label of every box of an image (mmdet's name for them)."""
        labels = self._labels(self._columns.annotations(int(self._chosen[idx])))
        return labels[labels >= 0].tolist()

    @force_full_init
    def image_sizes(self) -> np.ndarray:
        """Width and height of every image, (I, 2), without building the dicts."""
        return self._columns.sizes[np.asarray(self._chosen)]

    @force_full_init
    def labels_in_images(self) -> np.ndarray:
        """All distinct pairs of an image index and a label in it, (P, 2), sorted."""
        labels = self._labels(slice(None)).astype(np.int64)
        images = np.repeat(np.arange(len(self._columns)), np.diff(self._columns.starts))
        pairs = np.unique(images[labels >= 0] * len(self.cat_ids) + labels[labels >= 0])
        images, labels = np.divmod(pairs, len(self.cat_ids))
        first, last = (np.searchsorted(images, self._chosen, side) for side in ('left', 'right'))
        counts = last - first
        # positions `first` to `last` of each image, concatenated
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return np.stack([np.repeat(np.arange(len(self)), counts), labels[places]], 1)

    @force_full_init
    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep only the first n images (the last n if negative), or those in a list."""
        if isinstance(indices, int):
            self._chosen = self._chosen[:indices] if indices >= 0 else self._chosen[indices:]
        else:
            self._chosen = np.asarray(self._chosen)[np.asarray(indices, dtype=int)]

    @force_full_init
    def get_subset(self, indices: int | Sequence[int]) -> CocoDataset:
        """Return a copy with only these images. It shares the annotations."""
        subset = self._copy_without_annotation()
        subset.get_subset_(indices)
        return subset

    @property
    def _image_folder(self) -> str:
        return self.data_prefix.get('img', self.data_root) or ''

    def _match_classes(self, categories: list[dict]) -> None:
        """Map categories to labels, after checking that every class is a category of the file."""
        classes = self.metainfo['classes']
        names = tuple(category['name'] for category in categories)
        path = full_path(self.ann_file)
        if sorted(classes) != sorted(set(classes) & set(names)):
            dataset = 'val_dataloader.dataset' if self.test_mode else 'train_dataloader.dataset'
            raise UserError(
                f'the classes of the data set are not the categories of {path}: the config has {_shown(classes)}, '
                f'the file has {_shown(names)}; set --cfg-options {_as_option(f"{dataset}.metainfo.classes", names)} '
                '(for every data set), and the number of classes of the model to match')
        left_out = [name for name in names if name not in classes]
        if left_out:
            MMLogger.get_current_instance().warning(
                f'{path}: boxes of the categories {_shown(tuple(left_out))} are skipped, since they are not among the '
                'classes of the data set')
        ids = {category['name']: category['id'] for category in categories}
        self.cat_ids = [ids[name] for name in classes]
        self.cat2label = {category_id: label for label, category_id in enumerate(self.cat_ids)}
        self._label_of = np.array([self.cat2label.get(category['id'], -1) for category in categories])
        # saved in checkpoints with the class names, so that predictions can be written with the ids of the file
        self._metainfo['cat_ids'] = tuple(self.cat_ids)

    def _check_masks(self) -> None:
        """Say how many boxes have no mask."""
        missing = int((self._columns.flags & WITHOUT_MASK > 0).sum())
        path, count = full_path(self.ann_file), len(self._columns.flags)
        if missing == count and not self.test_mode:
            raise UserError(f'{path} has no masks: no annotation has a segmentation. Train a model without masks, or '
                            'add the segmentations')
        if missing:
            MMLogger.get_current_instance().warning(
                f'{path}: {missing} of {count} annotations have no segmentation and are left out')

    def _check_images(self, first: str) -> None:
        folder = full_path(self._image_folder)
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise UserError(f'image folder not found: {folder}; {self.HOW_TO_GET}')
        if not fileio.isfile(osp.join(folder, first), backend_args=self.backend_args):
            raise UserError(f'{full_path(self.ann_file)} names the image {first}, which is not in the image folder '
                            f'{folder}: set data_prefix.img of the data set to the folder that contains it')


def _shown(names: tuple[str, ...], limit: int = 10) -> str:
    """The number of names, and the first ones."""
    more = f', ... ({len(names) - limit} more)' if len(names) > limit else ''
    return f'{len(names)}: ' + ', '.join(names[:limit]) + more


def _as_option(setting: str, names: tuple[str, ...]) -> str:
    """The setting of the names, quoted for a shell, or with placeholders if there are too many for one line."""
    return shell_word(f'{setting}={names!r}' if len(names) <= 10 else f"{setting}=('name','name',...)", setting)
