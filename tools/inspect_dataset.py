"""Check a data set before training: python tools/inspect_dataset.py FOLDER_OR_CONFIG; status 1 if it has errors."""
import sys

from sparse_rcnn_mm.cli.inspect_dataset import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
