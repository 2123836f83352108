"""Download Pascal VOC 2007 and 2012, and convert the annotations to COCO JSON for the configs.

An interrupted download resumes where it stopped, every archive is checked by its MD5 sum before it is unpacked, and
complete parts are skipped. The test images of 2012 have no public annotations and are not downloaded.

Files written, if what they need is there: annotations/voc0712_trainval.json and voc2007_test.json with the boxes of the
detection task, voc2012_train_masks.json and voc2012_val_masks.json with the masks of the segmentation task.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparse_rcnn_mm.terminal import show

from .archives import Archive, add_arguments, obtain_all
from .parser import Parser


@dataclass(frozen=True)
class VocArchive(Archive):
    """An archive of VOC. Those of one year share their folders, so `pattern` is that of the lists of its images."""

    def complete(self, root: Path) -> bool:
        """Whether all images of the lists are there, and at least `count`."""
        stems = {(path.parents[2], line.split()[0]) for path in root.glob(self.pattern)
                 for line in path.read_text().splitlines() if line.strip()}
        return len(stems) >= self.count and all((base / f'JPEGImages/{stem}.jpg').is_file() and
                                                (base / f'Annotations/{stem}.xml').is_file() for base, stem in stems)


_SETS = 'VOCdevkit/VOC{}/ImageSets/{}/{}.txt'
# Sizes of the files at host.robots.ox.ac.uk, and MD5 sums that torchvision uses too.
ARCHIVES = {
    'trainval2007': VocArchive('voc2007/VOCtrainval_06-Nov-2007.tar', 460032000, 'c52e279531787c972589f7e41ab4ae64',
                               _SETS.format(2007, 'Main', 'trainval'), 5011),
    'test2007': VocArchive('voc2007/VOCtest_06-Nov-2007.tar', 451020800, 'b6e924de25625d8de591ea690078ad9f',
                           _SETS.format(2007, 'Main', 'test'), 4952),
    'trainval2012': VocArchive('voc2012/VOCtrainval_11-May-2012.tar', 1999639040, '6cd6e144f989b92b3379bac3b3de84fd',
                               _SETS.format(2012, '*', 'trainval'), 11540),
}
# {name} is the file name of an archive; without it, the path of the archive is appended.
MIRRORS = ('http://host.robots.ox.ac.uk/pascal/VOC', 'https://thor.robots.ox.ac.uk/pascal/VOC',
           'https://data.pjreddie.com/files/{name}', 'https://pjreddie.com/media/files/{name}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, ARCHIVES, 'data/voc', MIRRORS)
    args = parser.parse_args(argv)
    status = obtain_all(ARCHIVES, args, MIRRORS)
    if status == 0:
        from sparse_rcnn_mm.own_data.voc_challenge import write_annotations
        for line in write_annotations(args.root):
            show(line)
    return status
