"""Show how proposals become detections, stage by stage: python tools/visualize_stages.py IMAGE --model CHECKPOINT."""
import sys

from sparse_rcnn_mm.cli.stages import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
