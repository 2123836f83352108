"""Export a checkpoint and verify the result: python tools/export.py CHECKPOINT writes CHECKPOINT.onnx beside it."""
import sys

from sparse_rcnn_mm.cli.export import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
