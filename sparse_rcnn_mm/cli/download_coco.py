"""Download COCO 2017 to the folders that the configs expect. Needs only the standard library.

An interrupted download resumes where it stopped, every archive is checked by its MD5 sum before it is unpacked, and
complete parts are skipped.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sparse_rcnn_mm.downloads import Progress, fetch, hash_of, size_of
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import show

from .parser import Parser


@dataclass(frozen=True)
class Archive:
    """An archive of the COCO site: its path, size in bytes, MD5 sum, and the pattern and number of its files."""
    path: str
    size: int
    md5: str
    pattern: str
    count: int

    def complete(self, root: Path) -> bool:
        """Whether all its files are under `root`, however they got there."""
        return sum(1 for _ in root.glob(self.pattern)) >= self.count


# Sizes and MD5 sums of the files at images.cocodataset.org. Several public scripts use the same sums.
ARCHIVES = {
    'train2017': Archive('zips/train2017.zip', 19336861798, 'cced6f7f71b7629ddf16f17bbcfab6b2',
                         'train2017/*.jpg', 118287),
    'val2017': Archive('zips/val2017.zip', 815585330, '442b8da7639aecaf257c1dceb8ba8c80', 'val2017/*.jpg', 5000),
    'annotations': Archive('annotations/annotations_trainval2017.zip', 252907541, 'f4bbac642086de4f52a3fdda2de5fa2c',
                           'annotations/instances_*2017.json', 2),
}


def unpack(archive: Path, root: Path) -> None:
    """Unpack a zip file under `root`. Files are renamed when complete, so an interrupt leaves no partial file.

    Raises:
        UserError: a file of the archive would be written elsewhere. Then nothing is unpacked.
    """
    with zipfile.ZipFile(archive) as file:
        members = [member for member in file.infolist() if not member.is_dir()]
        for name in (PurePath(member.filename) for member in members):
            if name.anchor or '..' in name.parts:
                raise UserError(f'{archive} was not unpacked: its file {name} would be written outside of {root}')
        progress = Progress(f'unpack {archive.name}', sum(member.file_size for member in members))
        for member in members:
            target = root / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + '.partial')
            with file.open(member) as source, partial.open('wb') as sink:
                shutil.copyfileobj(source, sink)
            partial.replace(target)
            progress.add(member.file_size)
        progress.close()


def obtain(name: str, root: Path, mirror: str, keep_zip: bool) -> None:
    """Download, check and unpack an archive, unless its files already exist."""
    archive = ARCHIVES[name]
    if archive.complete(root):
        show(f'{name}: already complete in {root}')
        return
    zip_path = root / Path(archive.path).name
    # Unpacked images take about as much space as their archive.
    need, free = 2 * archive.size - size_of(zip_path), shutil.disk_usage(root).free
    if free < need:
        raise UserError(f'{name} needs {need / 1e9:.1f} GB on the disk of {root}, which has {free / 1e9:.1f} GB '
                            'free: free some space, or choose another folder with --root')
    fetch(f'{mirror.rstrip("/")}/{archive.path}', zip_path, archive.size)
    if (found := hash_of(zip_path, 'md5')) != archive.md5:
        raise UserError(f'{zip_path} is damaged (MD5 {found}, expected {archive.md5}): delete it and run the same '
                            'command again')
    unpack(zip_path, root)
    if not archive.complete(root):
        raise UserError(f'{zip_path} was unpacked, but some of {archive.pattern} are missing in {root}')
    if not keep_zip:
        zip_path.unlink()
    show(f'{name}: complete in {root}')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/coco'),
                        help='folder to write to (default: %(default)s)')
    parser.add_argument('--splits', nargs='+', choices=ARCHIVES, default=list(ARCHIVES), metavar='SPLIT',
                        help='of ' + ', '.join(ARCHIVES) + ' (default: all, 20.4 GB to download)')
    parser.add_argument('--keep-zips', action='store_true', help='keep the archives after unpacking')
    parser.add_argument('--mirror', default='http://images.cocodataset.org',
                        help='address to download from (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    args.root.mkdir(parents=True, exist_ok=True)
    try:
        for name in args.splits:
            obtain(name, args.root, args.mirror, args.keep_zips)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        show(f'\nstopped; run the same command again to resume in {args.root}', sys.stderr)
        return 130
    return 0
