"""Where a detector is right and wrong: python tools/analyze.py CHECKPOINT [--data FOLDER] writes a page."""
import sys

from sparse_rcnn_mm.cli.analyze import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
