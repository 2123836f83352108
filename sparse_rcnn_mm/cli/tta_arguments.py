"""The options for test-time augmentation."""
from __future__ import annotations

import argparse


def add_tta_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --tta and --tta-official, which set `tta` as `Detector.from_checkpoint` takes it."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--tta', action='store_true',
                       help='test-time augmentation: look at each image in 13 sizes and mirrored, and merge the '
                       'detections by soft voting; each size is made from the original image; takes about 40 times as '
                       'long')
    group.add_argument('--tta-official', dest='tta', action='store_const', const='official',
                       help='the same exactly as the authors compute it: each size is made from the image that was '
                       'already resized for the test')
