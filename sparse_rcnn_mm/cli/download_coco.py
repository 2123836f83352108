"""Download COCO 2017 to the folders that the configs expect. Needs only the standard library.

An interrupted download resumes where it stopped, every archive is checked by its MD5 sum before it is unpacked, and
complete parts are skipped.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence

from .archives import Archive, add_arguments, obtain_all
from .parser import Parser

# Sizes and MD5 sums of the files at images.cocodataset.org. Several public scripts use the same sums.
ARCHIVES = {
    'train2017': Archive('zips/train2017.zip', 19336861798, 'cced6f7f71b7629ddf16f17bbcfab6b2',
                         'train2017/*.jpg', 118287),
    'val2017': Archive('zips/val2017.zip', 815585330, '442b8da7639aecaf257c1dceb8ba8c80', 'val2017/*.jpg', 5000),
    'annotations': Archive('annotations/annotations_trainval2017.zip', 252907541, 'f4bbac642086de4f52a3fdda2de5fa2c',
                           'annotations/instances_*2017.json', 2),
}
MIRRORS = ('http://images.cocodataset.org',)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, ARCHIVES, 'data/coco', MIRRORS)
    return obtain_all(ARCHIVES, parser.parse_args(argv), MIRRORS)
