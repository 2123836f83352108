"""Train a detector: python tools/train.py CONFIG [--data FOLDER]."""
import sys

from sparse_rcnn_mm.cli.train import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
