"""COCO as the official code reads it."""
from __future__ import annotations

import contextlib
import io
import os.path as osp
from collections import defaultdict
from collections.abc import Mapping

from mmengine import fileio
from mmengine.logging import MMLogger

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATASETS

from .coco_json import full_path, read_coco_json

with contextlib.redirect_stdout(io.StringIO()):  # onedl's mmdet prints twice that it goes without OneDL's data sets
    from mmdet.datasets import CocoDataset as MMDetCocoDataset


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """Boxes of a COCO annotation file, kept as detectron2's `load_coco_json` and the official mapper keep them.

    Crowd boxes are dropped, and those marked as `ignore`, and those whose polygons all have fewer than three points.
    Everything else stays: boxes that reach beyond the image or are thin (the pipeline clips them and drops empty
    ones), and images without any box, unless `filter_cfg` has `filter_empty_gt=True` or a `min_size`.
    Masks are not loaded. Labels number the classes in the order of `metainfo.classes`, whatever the file has.

    Files are checked when the data set is built, so a mistake shows before training: `UserError`.
    """

    HOW_TO_GET = ("'python tools/download_coco.py' fetches COCO 2017 to data/coco (annotations, train2017, val2017); "
                  'for other data set data_root, ann_file and data_prefix.img of the data set')

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        """Take a single class given as a bare string, and drop a palette that has too few colours for the classes."""
        if metainfo and isinstance(metainfo.get('classes'), str) and not osp.isfile(metainfo['classes']):
            metainfo = {**metainfo, 'classes': (metainfo['classes'],)}
        merged = super()._load_metainfo(metainfo)
        merged['classes'] = tuple(str(name) for name in merged['classes'])
        if len(merged.get('palette', ())) < len(merged['classes']):
            merged.pop('palette', None)
        return merged

    def load_data_list(self) -> list[dict]:
        """One dict an image, in the order of the file names.

        COCO's file names are its image ids, by which detectron2 sorts; and the same images are in the same order then
        whatever form their annotations came in, so that a seed gives the same training.
        """
        coco = read_coco_json(self.ann_file, self.test_mode, self.HOW_TO_GET, self.backend_args)
        self._match_classes(coco['categories'])
        self._check_images(coco['images'][0]['file_name'])
        instances = defaultdict(list)
        for annotation in coco['annotations']:
            if self._is_kept(annotation):
                instances[annotation['image_id']].append(self._instance(annotation))
        return [{
            'img_path': osp.join(self._image_folder, image['file_name']),
            'img_id': image['id'],
            'height': image['height'],
            'width': image['width'],
            'instances': instances[image['id']],
        } for image in sorted(coco['images'], key=lambda image: (image['file_name'], image['id']))]

    def filter_data(self) -> list[dict]:
        """Apply `filter_cfg`; mmdet's own counts crowd boxes and those of other classes as ground truth."""
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        min_size = self.filter_cfg.get('min_size', 0)
        with_boxes_only = self.filter_cfg.get('filter_empty_gt', False)
        return [data for data in self.data_list
                if min(data['width'], data['height']) >= min_size and (data['instances'] or not with_boxes_only)]

    @property
    def _image_folder(self) -> str:
        return self.data_prefix.get('img', self.data_root) or ''

    def _match_classes(self, categories: list[dict]) -> None:
        """Number the classes, which must be among the file's categories."""
        classes = self.metainfo['classes']
        names = tuple(category['name'] for category in categories)
        path = full_path(self.ann_file)
        if sorted(classes) != sorted(set(classes) & set(names)):
            dataset = 'val_dataloader.dataset' if self.test_mode else 'train_dataloader.dataset'
            raise UserError(
                f'the classes of the data set are not the categories of {path}: configured are {_shown(classes)}, '
                f'the file has {_shown(names)}; set --cfg-options {dataset}.metainfo.classes="{_as_option(names)}" '
                '(for every data set) and the number of classes of the model to match')
        left_out = [name for name in names if name not in classes]
        if left_out:
            MMLogger.get_current_instance().warning(
                f'{path}: boxes of the categories {_shown(tuple(left_out))} are left out, as they are not among the '
                'classes of the data set')
        ids = {category['name']: category['id'] for category in categories}
        self.cat_ids = [ids[name] for name in classes]
        self.cat2label = {category_id: label for label, category_id in enumerate(self.cat_ids)}
        # goes into checkpoints with the class names, so that predictions can be written with the file's ids
        self._metainfo['cat_ids'] = tuple(self.cat_ids)

    def _check_images(self, first: str) -> None:
        folder = full_path(self._image_folder)
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise UserError(f'image folder not found: {folder}; {self.HOW_TO_GET}')
        if not fileio.isfile(osp.join(folder, first), backend_args=self.backend_args):
            raise UserError(f'{full_path(self.ann_file)} names the image {first}, which is not in the image folder '
                            f'{folder}: set data_prefix.img of the data set to the folder that it is in')

    def _is_kept(self, annotation: dict) -> bool:
        polygons = annotation.get('segmentation')
        invalid = bool(polygons) and isinstance(polygons, list) and all(
            isinstance(polygon, list) and (len(polygon) < 6 or len(polygon) % 2) for polygon in polygons)
        return not (annotation.get('iscrowd') or annotation.get('ignore') or invalid
                    or annotation['category_id'] not in self.cat2label)

    def _instance(self, annotation: dict) -> dict:
        x, y, width, height = annotation['bbox']
        return {
            'bbox': [x, y, x + width, y + height],
            'bbox_label': self.cat2label[annotation['category_id']],
            'ignore_flag': 0,
        }


def _shown(names: tuple[str, ...], limit: int = 10) -> str:
    """The number of names and the names, the tail of a long list cut off."""
    more = f', ... ({len(names) - limit} more)' if len(names) > limit else ''
    return f'{len(names)}: ' + ', '.join(names[:limit]) + more


def _as_option(names: tuple[str, ...]) -> str:
    """The names as a tuple that --cfg-options reads, unless there are too many for one line."""
    return '(' + ''.join(f"'{name}'," for name in names) + ')' if len(names) <= 10 else "('name','name',...)"
