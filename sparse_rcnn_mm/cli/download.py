"""sparse-rcnn download: downloads published weights, or lists them."""
from __future__ import annotations

from collections.abc import Sequence

from sparse_rcnn_mm.checkpoints.weights import AUTHORS, OFFICIAL, ZOO, local_checkpoint
from sparse_rcnn_mm.terminal import show

from .parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = Parser(description='Download trained weights to the cache, where every command finds them '
                    'by name. `sparse-rcnn download coco` downloads COCO 2017, `sparse-rcnn download voc` Pascal VOC.')
    parser.add_argument('names', nargs='*', metavar='NAME', help='name or address; without one, the names are listed')
    names = parser.parse_args(argv).names
    show('\n'.join(str(local_checkpoint(name)) for name in names) if names else table())
    return 0


def table() -> str:
    """The table of published weights."""
    lines = [f'{"name":28}{"box AP":>6}  name in mmdet']
    lines += [f'{weights.config:28}{weights.box_ap:6.1f}  {weights.mmdet_name}' for weights in ZOO]
    return '\n'.join(lines) + (f"\n\nThe authors' own ({', '.join(OFFICIAL)}) are on a drive: download them by hand "
                               f'from {AUTHORS}\nand run sparse-rcnn convert FILE NEW.pth')
