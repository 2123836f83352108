"""Make the digits data set of the quick start: 1,000 training and 200 validation images."""
import sys

from sparse_rcnn_mm.cli.digits import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
