"""A problem of a data set, and how it names the boxes."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .raw_data import Split


class Finding(NamedTuple):
    """A problem: `where` names the file and line or id, `what` ends the sentence, `kind` groups similar findings."""
    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f'{self.where}: {self.what}'


def boxes_of(split: Split) -> Iterator[tuple[dict, dict]]:
    """Every box with its image."""
    images = {image['id']: image for image in split.coco['images']}
    return ((box, images[box['image_id']]) for box in split.coco['annotations'])


def box_in(box: dict, image: dict) -> str:
    """A box and its image, for messages."""
    x, y, width, height = box['bbox']
    corners = ', '.join(f'{value:g}' for value in (x, y, x + width, y + height))
    return f'box ({corners}) in {image["file_name"]}'
