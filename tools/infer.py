"""Detect objects in images, folders, videos or a webcam: python tools/infer.py INPUT... --model CHECKPOINT."""
import sys

from sparse_rcnn_mm.cli.infer import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
