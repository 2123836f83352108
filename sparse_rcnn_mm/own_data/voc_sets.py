"""Reads the image sets of Pascal VOC: text files that list the images of each split."""
from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from sparse_rcnn_mm.errors import UserError

from .locate import parts_of, without_suffix
from .raw_data import SPLIT_WORDS, RawData, relative, split_of
from .text import read_text

_FLAG = re.compile(r'\s+-?[01]$')  # the flag after a name in the set of a single class, such as cat_train.txt


def image_sets(files: list[Path], xmls: list[Path], data: RawData, masks: bool) -> dict[Path, str] | None:
    """Return XML file -> split for all XML files in a list; None if there are no lists, or only empty ones.

    Lists are `train.txt`, `val.txt`, ... whose lines name XML files or images, with or without folder and suffix. If
    several folders have such lists, `ImageSets/Main` is used; for masks `ImageSets/Segmentation`, if there is one.

    Args:
        files: all files of the data set.
        xmls: its XML files.
        data: gets notes, and the lists that are used.
        masks: the data is for a model with masks.

    Raises:
        UserError: a name fits several files, or two lists contain the same file.
    """
    index: dict[str, list[Path]] = defaultdict(list)
    for path in xmls:
        index[path.name[:-4].lower()].append(path)
    root, notes = data.root, data.notes
    lists = _lists(files, masks)
    splits: dict[Path, str] = {}
    origin: dict[Path, Path] = {}
    empty = True
    for path in sorted(lists, key=lambda path: path.stem.lower() != 'trainval'):  # train and val override trainval
        missing = []
        for line in filter(str.strip, read_text(path, notes).splitlines()):
            empty = False
            xml = _named(line.strip(), path, index, root)
            if xml is None:
                missing.append(line.strip())
                continue
            before = origin.get(xml, path)
            if before != path and before.stem.lower() != 'trainval' and splits[xml] != split_of(Path(path.name)):
                raise UserError(f'{relative(before, root)} and {relative(path, root)} in {root} both name '
                                f'{line.strip()}: an image can be in one split only')
            splits[xml], origin[xml] = split_of(Path(path.name)), path
        if missing:
            notes.append(f'{len(missing)} names in {relative(path, root)} have no XML file, the first: {missing[0]}')
        data.used.add(path)
    if masks and lists:
        folders = dict.fromkeys(relative(path.parent, root) for path in lists)
        notes.append(f'splits from the lists in {" and ".join(folders)}')
    return None if empty else splits


def _lists(files: list[Path], masks: bool) -> list[Path]:
    lists = [path for path in files if path.suffix.lower() == '.txt' and path.stem.lower() in SPLIT_WORDS]
    for folder in ('segmentation', 'main') if masks else ('main', 'segmentation'):
        if preferred := [path for path in lists if path.parent.name.lower() == folder]:
            return preferred
    return lists


def _named(line: str, near: Path, index: dict[str, list[Path]], root: Path) -> Path | None:
    """Find the XML file of a line. Names may contain spaces and dots; among equal names, the path decides."""
    for text in (line, _FLAG.sub('', line)):
        parts = parts_of(text)
        if not parts:
            continue
        stem = without_suffix(parts[-1])
        candidates = index.get(stem.lower()) or index.get(parts[-1].lower()) or []
        above = [part.lower() for part in parts[-2::-1]]
        fitting = [path for path in candidates
                   if [part.lower() for part in path.parts[-2::-1]][:len(above)] == above] or candidates
        # VOC2007 and VOC2012 in one folder each have their own lists
        base = near.parent.parent.parent if near.parent.name.lower() in ('main', 'segmentation') else near.parent.parent
        own = [path for path in fitting if path.is_relative_to(base)] or fitting
        if len(own) > 1:
            raise UserError(f'{relative(near, root)} in {root} names {text}, which could be {relative(own[0], root)} '
                            f'or {relative(own[1], root)}: add the folder to the name')
        if own:
            return own[0]
    return None
