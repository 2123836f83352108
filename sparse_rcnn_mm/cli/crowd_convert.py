"""CrowdHuman's odgt files as COCO JSON: byte for byte what the converter of Sparse R-CNN's authors writes."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_mm.own_data.crowdhuman_form import convert

from .parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('data', metavar='FOLDER', help='folder with annotation_train.odgt, annotation_val.odgt and, '
                        'anywhere below it, the images; or one odgt file')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder for train.json and val.json, such as '
                        'FOLDER/annotations')
    args = parser.parse_args(argv)
    print('\n'.join(convert(args.data, args.out)))
    return 0
