"""Two detectors on the same images: python tools/compare.py A B IMAGES_OR_DATA writes a page."""
import sys

from sparse_rcnn_mm.cli.compare import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
