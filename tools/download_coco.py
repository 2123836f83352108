"""Fetch COCO 2017 into the folders that the configs expect, with nothing but the standard library."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sparse_rcnn_mm.cli.download_coco import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
