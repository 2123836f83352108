"""Formats that are recognized but not supported, so that the error can name them."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sparse_rcnn_mm.datasets.scan import Scan

from .text import read_bytes


class OtherForm(NamedTuple):
    """A format with a name; a file is in it if it has the `suffix` and contains all of `words`."""
    name: str
    suffix: str
    words: tuple[bytes, ...]


OTHER_FORMS = (
    OtherForm("CVAT's own XML", '.xml', (b'<annotations', b'<image ')),
    OtherForm('LabelMe JSON', '.json', (b'"shapes"', b'"imagePath"')),
    OtherForm('VGG Image Annotator JSON', '.json', (b'"regions"', b'"shape_attributes"')),
    OtherForm("Label Studio's own JSON", '.json', (b'"annotations"', b'"result"', b'"data"')),
    OtherForm('CreateML JSON', '.json', (b'"annotations"', b'"coordinates"', b'"label"')),
    OtherForm("Supervisely's JSON", '.json', (b'"objects"', b'"classTitle"', b'"points"')),
    OtherForm('BDD100K or Scalabel JSON', '.json', (b'"labels"', b'"box2d"')),
)


def other_form(scan: Scan) -> tuple[str, Path] | None:
    """Return the name of the format and the first file in it, or None."""
    for path in scan.with_suffix('.json', '.xml'):
        data = read_bytes(path)
        for form in OTHER_FORMS:
            if path.suffix.lower() == form.suffix and all(word in data for word in form.words):
                return form.name, path
    return None
