"""The report of `sparse-rcnn inspect`: what is wrong with the data, and a page of training pictures."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATASETS, SCOPE, innermost_dataset
from sparse_rcnn_mm.terminal import one_line
from sparse_rcnn_mm.visualization.contact_sheet import contact_sheet

from .coco_form import read_coco_split
from .config import set_dataset
from .inspection import Finding, Findings, without_faulty_images
from .preparing import prepare
from .raw_data import RawData


def data_of(cfg: Config) -> RawData:
    """Read the training and validation data of a config.

    Raises:
        UserError: a file is missing or is not COCO JSON.
    """
    places = {}
    for part in ('train', 'val'):
        dataset = innermost_dataset(cfg[f'{part}_dataloader'].dataset)
        root = Path(dataset.get('data_root') or '').absolute()
        places[part] = root / dataset.ann_file, root / (dataset.get('data_prefix', {}).get('img') or '')
    data = RawData(places['train'][1], 'COCO JSON of the config', {})
    for part, (path, folder) in places.items():
        if not path.is_file():
            raise UserError(f'annotation file not found: {path}, the {part} data of the config')
        data.splits[part] = read_coco_split(path, data.root, folder, data.faults)
    return data


def draw(raw: RawData, cfg: Config, folder: Path, count: int) -> Image.Image:
    """Draw a page of training images after the config's augmentation. Temporary annotations go to `folder`."""
    data = prepare(without_faulty_images(raw), split=False)
    name = next(iter(data.splits))
    data.splits = {name or 'all': data.splits[name]}
    (path,) = data.write(folder).values()
    set_dataset(cfg, 'train', path, data)
    with DefaultScope.overwrite_default_scope(SCOPE):
        return contact_sheet(DATASETS.build(cfg.train_dataloader.dataset), tuple(data.classes), count)


def report(found: Findings, most: int | None = None) -> str:
    """List errors, then warnings, with at most `most` of each kind."""
    return '\n\n'.join(f'{len(findings)} {name}{"" if len(findings) == 1 else "s"}' + _listed(findings, most)
                       for name, findings in (('error', found.errors), ('warning', found.warnings)))


def _listed(findings: list[Finding], most: int | None) -> str:
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.kind].append(finding)
    lines = []
    for kind, several in kinds.items():
        lines += [f'\n  {one_line(finding)}' for finding in several[:most]]
        if most is not None and len(several) > most:
            lines.append(f'\n  ... and {len(several) - most} more of this kind ({kind})')
    return ''.join(lines)
