"""Reads the class names of YOLO data, and the splits in data.yaml."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from .raw_data import relative
from .text import name_fault, read_bytes, read_text

NAME_FILES = {'classes.txt', 'obj.names', 'labels.txt', '_darknet.labels'}
YAML = ('.yaml', '.yml')
SPLITS = {'train': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val', 'test': 'test'}
_MOST = 2 ** 20  # largest size of a data.yaml, in characters


class _Words(yaml.BaseLoader):
    """Reads every value as a string, so that `no` and `010` can be names. A duplicate key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f'it gives {twice!r} twice', node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass
class DataYaml:
    """The contents of a data.yaml.

    Attributes:
        path: the file.
        names: the class names.
        splits: split -> folders or lists of images, as written.
        base: the value of `path`, which the splits are relative to.
        keypoint_numbers: how many keypoint values follow a box.
    """
    path: Path
    names: list[str]
    splits: dict[str, list[str]] = field(default_factory=dict)
    base: str = ''
    keypoint_numbers: int = 0


def is_data_yaml(path: Path) -> bool:
    """Whether a YAML file has the key `names`."""
    if path.suffix.lower() not in YAML:
        return False
    data = read_bytes(path).replace(b'\0', b'')  # also in UTF-16
    return bool(re.search(rb'^(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?names', data, re.MULTILINE))


def read_data_yaml(path: Path, notes: list[str]) -> DataYaml:
    """Read a data.yaml.

    Raises:
        UserError: the file is not valid YAML, or has no valid class names.
    """
    text = read_text(path, notes)
    if len(text) > _MOST:
        raise UserError(f'{path} has {len(text)} characters: a data.yaml should contain only names and paths')
    try:
        content = yaml.load(text, _Words)  # safe: builds only strings, lists and dicts
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        what = 'nested too deeply' if isinstance(error, RecursionError) else ' '.join(str(error).split())
        raise UserError(f'{path} is not valid YAML: {what}') from error
    names = content.get('names') if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise UserError(f"the numbers of 'names' in {path} must be 0 to {len(names) - 1} without gaps")
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} needs the class names as a list 'names'")
    check_names(names, path)
    if str(content.get('nc', len(names))).strip() not in (str(len(names)), ''):
        raise UserError(f"{path} has {len(names)} names, but says 'nc: {content['nc']}': mend the one that is wrong")
    base = content.get('path') or ''
    return DataYaml(path, names, _splits(content, path), base if isinstance(base, str) else '',
                    _keypoint_numbers(content.get('kpt_shape'), path))


def _splits(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for key, split in SPLITS.items():
        entries = content.get(key)
        entries = [entries] if isinstance(entries, str) else entries
        if not entries or entries in (['null'], ['~'], ['']):
            continue
        if not isinstance(entries, list) or not all(isinstance(entry, str) and '\0' not in entry for entry in entries):
            raise UserError(f"'{key}' in {path} is neither a path nor a list of paths")
        if split in splits:
            raise UserError(f'{path} gives the {split} split twice: keep one of val, valid and validation')
        splits[split] = entries
    return splits


def _keypoint_numbers(shape: Any, path: Path) -> int:
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, str) and re.fullmatch(r'\d{1,4}', side)
                                                                for side in shape)):
        raise UserError(f"'kpt_shape' in {path} is not [number of keypoints, values per keypoint]")
    return int(shape[0]) * int(shape[1])


def read_name_list(path: Path, notes: list[str]) -> list[str]:
    """Read class names, one per line.

    Raises:
        UserError: a name is invalid or there twice, or a line between names is empty.
    """
    names = [line.strip() for line in read_text(path, notes).rstrip().splitlines()]
    if '' in names:
        raise UserError(f'line {names.index("") + 1} of {path} is empty, so the numbers of the classes below it are '
                        'unclear: remove the line, or write a name into it')
    check_names(names, path)
    return names


def check_names(names: list[str], path: Path) -> None:
    """Raise a `UserError` for an invalid or duplicate name."""
    for number, name in enumerate(names):
        if fault := name_fault(name):
            raise UserError(f'name {number} in {path} {fault}')
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f'{path} has the name {twice!r} twice: give every class its own name')


class Names:
    """The class names for each label file: those of data.yaml, or of the list in the nearest parent folder."""

    def __init__(self, scan: Scan, paths: list[Path], notes: list[str]) -> None:
        """Read the files. The attribute `yaml` is the contents of data.yaml, or None.

        Raises:
            UserError: two files that both apply disagree.
        """
        yamls = [path for path in paths if path.suffix.lower() in YAML]
        top = min((len(path.parts) for path in yamls), default=0)
        self.used = [path for path in yamls if len(path.parts) == top]
        contents = [read_data_yaml(path, notes) for path in self.used]
        self.yaml = contents[0] if contents else None
        self._lists: dict[Path, list[str]] = {}
        for path, content in zip(self.used[1:], contents[1:], strict=True):
            if (content.names, content.splits) != (contents[0].names, contents[0].splits):
                raise UserError(f'{relative(self.used[0], scan.root)} and {relative(path, scan.root)} in {scan.root} '
                                'differ: pass the right one instead of the folder')
        by_folder: dict[Path, Path] = {}
        for path in sorted(set(paths) - set(yamls)):
            self._add_list(path, by_folder, scan.root, notes)

    def _add_list(self, path: Path, by_folder: dict[Path, Path], root: Path, notes: list[str]) -> None:
        names = read_name_list(path, notes)
        if not names:
            return
        other = by_folder.setdefault(path.parent, path)
        expected = self.yaml.names if self.yaml else self._lists.setdefault(path.parent, names)
        if names != expected:
            other = self.yaml.path if self.yaml else other
            raise UserError(f'{relative(other, root)} and {relative(path, root)} in {root} have different class names, '
                            'or in a different order: remove the wrong one')
        self.used.append(path)

    @property
    def all(self) -> list[str]:
        """All class names, without duplicates."""
        lists = [self.yaml.names] if self.yaml else [self._lists[folder] for folder in sorted(
            self._lists, key=lambda folder: (len(folder.parts), folder))]
        return list(dict.fromkeys(name for names in lists for name in names))

    def of(self, label_file: Path) -> list[str]:
        """The class names for one label file; empty if no list applies to it."""
        if self.yaml:
            return self.yaml.names
        return next((self._lists[folder] for folder in label_file.parents if folder in self._lists),
                    next(iter(self._lists.values())) if len(self._lists) == 1 else [])
