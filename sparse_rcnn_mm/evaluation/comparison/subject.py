"""The images of a comparison, with ground truth if there is any."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.image_files import is_image
from sparse_rcnn_mm.datasets.masks import decode_run_lengths, lacks_mask
from sparse_rcnn_mm.datasets.scan import scan
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.sources import find_sources
from sparse_rcnn_mm.own_data.config import HeldOut, read_test_split
from sparse_rcnn_mm.own_data.forms import has_annotations
from sparse_rcnn_mm.own_data.preparing import check_left
from sparse_rcnn_mm.terminal import say

from ..mask_truth import mask_truth


@dataclass(frozen=True)
class Subject:
    """The images that two detectors are compared on.

    Attributes:
        name: the input as the user wrote it.
        coco: `images`, `annotations` and `categories`; the id of a category is its label plus 1.
        paths: image id -> path.
        annotated: whether there is ground truth.
    """
    name: str
    coco: dict[str, list[dict[str, Any]]]
    paths: dict[int, str]
    annotated: bool

    @classmethod
    def find(cls, inputs: Sequence[str], classes: Sequence[str], held_out: Sequence[HeldOut], out_dir: Path,
             masks: bool = False) -> Subject:
        """Read data with annotations, or find images.

        Args:
            inputs: a data folder or an annotation file; or images, folders and patterns.
            classes: the classes to compare.
            held_out: the images that the training of each detector held out.
            out_dir: the output folder. Files in it are not used as inputs.
            masks: as in `read_data`.

        Raises:
            UserError: there are no images, or the data cannot be used.
        """
        if len(inputs) == 1 and _is_data(Path(inputs[0]).expanduser()):
            return cls._of_data(inputs[0], classes, held_out, out_dir, masks)
        sources = find_sources(inputs, out_dir)
        images = [source for source in sources if source.kind == 'image']
        if others := [source.name for source in sources if source.kind != 'image']:
            say(f'left out: {len(others)} videos or cameras, the first: {others[0]}')
        if not images:
            raise UserError(f'{", ".join(inputs)}: no image among the inputs; only images can be compared')
        entries = [{'id': index, 'file_name': image.name} for index, image in enumerate(images, start=1)]
        return cls(' '.join(inputs), {'images': entries, 'annotations': [], 'categories': []},
                   {index: image.path for index, image in enumerate(images, start=1)}, False)

    @classmethod
    def _of_data(cls, path: str, classes: Sequence[str], held_out: Sequence[HeldOut], out_dir: Path,
                 masks: bool) -> Subject:
        data = read_test_split(path, {name: label + 1 for label, name in enumerate(classes)}, held_out, str(out_dir),
                               masks)
        check_left(data)
        say(*data.said)
        coco, = data.splits.values()
        if masks:
            mask_truth(coco)  # an invalid one is reported now, not after hours of detection
        return cls(path, coco, {image['id']: str(data.root / image['file_name']) for image in coco['images']}, True)

    def annotations(self) -> dict[int, list[dict[str, Any]]]:
        """Return the annotations of each image, by image id."""
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self.coco['annotations']:
            found[annotation['image_id']].append(annotation)
        return found

    def bitmaps(self, image_id: int) -> dict[int, np.ndarray]:
        """Return the masks (height, width) of an image's annotations, by their index. Those without one are left out.

        Raises:
            UserError: a segmentation is invalid.
        """
        image = next(image for image in self.coco['images'] if image['id'] == image_id)
        masked = {index: one for index, one in enumerate(self.annotations()[image_id])
                  if not lacks_mask(one.get('segmentation'))}
        coded = mask_truth({'images': [image], 'annotations': list(masked.values())})
        return {index: decode_run_lengths(one['segmentation']) for index, one in zip(masked, coded, strict=True)}


def _is_data(path: Path) -> bool:
    if path.is_file():
        return not is_image(path) and has_annotations(scan(path))
    return path.is_dir() and has_annotations(scan(path))
