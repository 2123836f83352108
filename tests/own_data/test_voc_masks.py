"""Masks of Pascal VOC trees: each reaches the sample of its own box; what does not is counted and named."""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from sparse_rcnn_mm.datasets.masks import decode_segmentation
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import set_training_data, with_masks
from sparse_rcnn_mm.own_data.raw_data import Box, RawData
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.own_data.voc_masks import Instance, _color_numbers, match, read_instances
from sparse_rcnn_mm.registry import DATASETS
from tests.kit import CONFIGS
from tests.kit.voc import Thing, numbers, palette, save_numbers, write_voc

BASE = 'VOCdevkit/VOC2012'


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, dict[str, list[Thing]]]:
    return tmp_path / 'data', write_voc(tmp_path / 'data')


def decoded(data: RawData, split: str) -> dict[str, list[tuple[np.ndarray | None, dict]]]:
    """Of every image of a split: the bitmap of each annotation, and the annotation."""
    part = data.splits[split].coco
    found: dict[int, list] = {image['id']: [] for image in part['images']}
    for one in part['annotations']:
        image = part['images'][one['image_id'] - 1]
        mask = one.get('segmentation')
        bitmap = None if mask is None else decode_segmentation(mask, image['height'], image['width'])
        found[one['image_id']].append((bitmap, one))
    return {Path(image['file_name']).stem: found[image['id']] for image in part['images']}


def test_every_box_gets_its_own_mask(tree: tuple[Path, dict[str, list[Thing]]]) -> None:
    root, truth = tree
    data = read_data(root, masks=True)
    seen = set()
    for split in ('train', 'val'):
        for stem, found in decoded(data, split).items():
            seen.add(stem)
            assert len(found) == len(truth[stem])
            for (bitmap, annotation), thing in zip(found, truth[stem], strict=True):
                inside = numbers([thing], [1]) == 1  # without the border
                assert (bitmap == inside).all() and annotation['area'] == inside.sum()
                x1, y1, x2, y2 = thing.box
                assert annotation['bbox'] == [x1, y1, x2 - x1, y2 - y1]
                assert annotation['iscrowd'] == thing.difficult
    assert seen == {stem for index, stem in enumerate(truth) if index % 3 != 2}


def test_splits_of_boxes_and_of_masks_are_those_of_their_image_sets(tree: tuple[Path, dict]) -> None:
    root, truth = tree
    sets = root / BASE / 'ImageSets'
    for masks, folder in ((False, 'Main'), (True, 'Segmentation')):
        data = read_data(root, masks)
        for split in ('train', 'val'):
            listed = (sets / folder / f'{split}.txt').read_text().split()
            assert sorted(decoded(data, split)) == sorted(listed)
    assert f'splits from the lists in {BASE}/ImageSets/Segmentation' in data.notes
    assert len(read_data(root).splits['train'].coco['images']) == len(truth) / 2


def test_files_of_masks_are_no_images_and_are_accounted_for(tree: tuple[Path, dict]) -> None:
    root, _ = tree
    for path in (root / BASE / 'Annotations').iterdir():  # names that fit the masks better than the images
        path.write_text(path.read_text().replace('.jpg', '.png'))
    boxes, masks = read_data(root), read_data(root, masks=True)
    for data in (boxes, masks):
        names = [image['file_name'] for split in data.splits.values() for image in split.coco['images']]
        assert {Path(name).parent.name for name in names} == {'JPEGImages'}
        assert any('not used: 8 images (masks of classes, not of objects)' in note for note in data.notes)
    assert any('not used: 8 images (masks, which a config with masks reads)' in note for note in boxes.notes)
    assert not any('SegmentationObject' in note for note in masks.notes)
    assert any('not used: 4 XML files (in none of the image sets)' in note for note in masks.notes)


def test_images_in_the_sets_without_a_file_of_masks_are_left_out(tree: tuple[Path, dict]) -> None:
    root, _ = tree
    shutil.rmtree(root / BASE / 'ImageSets/Segmentation')
    data = read_data(root, masks=True)
    assert sum(len(split.coco['images']) for split in data.splits.values()) == 8
    assert any(note.startswith('not used: 4 images (it has boxes, but no file of masks)') for note in data.notes)
    shutil.rmtree(root / BASE / 'SegmentationObject')
    assert sum(len(split.coco['images']) for split in read_data(root, masks=True).splits.values()) == 12


def bitmap(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    found = np.zeros((60, 80), bool)
    found[y1:y2, x1:x2] = True
    return found


def boxes(*corners: tuple[float, float, float, float]) -> list[Box]:
    return [Box('cat', corner, f'object {number}') for number, corner in enumerate(corners, start=1)]


@pytest.mark.parametrize(('masks', 'objects', 'owners'), [
    # by place, not by number
    ([(40, 10, 70, 50), (2, 3, 20, 30)], [(1, 2, 21, 31), (38, 9, 71, 52)], [(1, True), (0, True)]),
    # the same box twice: either could be it
    ([(2, 3, 20, 30)], [(1, 2, 21, 31), (1, 2, 21, 31)], [(None, True)]),
    # fits no box well enough
    ([(2, 3, 20, 30), (40, 10, 70, 50)], [(15, 20, 45, 55)], [(None, False), (None, False)]),
    # a rider and a horse: the horse's mask fits both boxes, but the rider's only its own
    ([(10, 5, 50, 50), (10, 8, 50, 55)], [(10, 8, 50, 55), (10, 1, 50, 46)], [(1, True), (0, True)]),
    # two masks, and one box that fits both
    ([(10, 5, 50, 50), (10, 5, 50, 51)], [(10, 5, 50, 50)], [(None, True), (None, True)]),
    ([], [(1, 2, 21, 31)], []),
    ([(2, 3, 20, 30)], [], [(None, False)]),
])
def test_a_mask_belongs_to_the_box_that_fits_it(masks: list, objects: list, owners: list) -> None:
    instances = [Instance(number, bitmap(*mask)) for number, mask in enumerate(masks, start=1)]
    assert match(instances, boxes(*objects)) == owners


def test_what_fits_nothing_is_counted_and_named(tree: tuple[Path, dict[str, list[Thing]]]) -> None:
    root, truth = tree
    stem = next(stem for stem in truth if len(truth[stem]) == 3)
    path = root / BASE / 'SegmentationObject' / f'{stem}.png'
    things = truth[stem]
    save_numbers(path, numbers([things[0], things[2], Thing('x', bitmap_of_corner(things))], [1, 3, 7]))
    data = read_data(root, masks=True)
    name = f'{BASE}/SegmentationObject/{stem}.png'
    assert f'1 mask that fits no box of its XML file, left out; the first: number 7 in {name}' in data.notes
    assert f'1 box without a mask, the first: {BASE}/Annotations/{stem}.xml: object 2' in data.notes


def bitmap_of_corner(things: list[Thing]) -> np.ndarray:
    corner = np.zeros_like(things[0].bitmap)
    corner[:5, :5] = True
    return corner


def test_the_colors_are_those_of_the_development_kit(tmp_path: Path) -> None:
    colors = np.array(palette()).reshape(-1, 3)
    assert _color_numbers() == {int(red) << 16 | int(green) << 8 | int(blue): number
                                for number, (red, green, blue) in enumerate(colors)}


@pytest.mark.parametrize('mode', ['P', 'L', 'I;16', 'RGB', 'RGBA'])
def test_numbers_in_any_kind_of_picture(mode: str, tmp_path: Path) -> None:
    wanted = np.zeros((60, 80), np.uint8)
    wanted[5:20, 5:20], wanted[5:20, 20:40], wanted[5:20, 40:42] = 3, 17, 255
    save_numbers(tmp_path / 'a.png', wanted)
    kinds = {'L': np.uint8, 'I;16': np.uint16}
    with Image.open(tmp_path / 'a.png') as colored:
        image = Image.fromarray(wanted.astype(kinds[mode])) if mode in kinds else colored.convert(mode)
    image.save(tmp_path / 'b.png')
    assert Image.open(tmp_path / 'b.png').mode == mode
    found = read_instances(tmp_path / 'b.png')
    assert [one.number for one in found] == [3, 17]
    assert [one.box for one in found] == [(5, 5, 20, 20), (20, 5, 40, 20)]


def test_unusable_files_are_one_sentence(tree: tuple[Path, dict], tmp_path: Path) -> None:
    root, _ = tree
    folder = root / BASE / 'SegmentationObject'
    first, second, third = sorted(folder.iterdir())[:3]
    first.write_bytes(first.read_bytes()[:60])
    Image.fromarray(np.full((120, 160, 3), 77, np.uint8)).save(second)
    Image.fromarray(np.ones((60, 80), np.uint8)).save(third)
    whats = {Path(fault.where).name: fault.what for fault in read_data(root, masks=True).faults}
    assert whats[first.name].startswith('cannot be decoded')
    assert whats[second.name].startswith('is a picture in colors that are not those of VOC, such as #4d4d4d')
    assert whats[third.name] == 'is 80 x 60 pixels, but its image is 160 x 120'
    (folder / 'more').mkdir()
    shutil.copy(third, folder / 'more' / third.name)
    with pytest.raises(UserError, match='could both be the masks of'):
        read_data(root, masks=True)


def test_from_the_tree_to_the_sample(tree: tuple[Path, dict[str, list[Thing]]], tmp_path: Path) -> None:
    root, truth = tree
    init_default_scope('sparse_rcnn_mm')
    config = Config.fromfile(CONFIGS / 'queryinst_r50_1x.py')
    assert with_masks(config) and not with_masks(Config.fromfile(CONFIGS / 'sparse_rcnn_r50_3x.py'))
    config.work_dir = str(tmp_path / 'work')
    set_training_data(config, str(root))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    for sample in (dataset[index]['data_samples'] for index in range(len(dataset))):
        stem = Path(sample.img_path).stem
        things = [thing for thing in truth[stem] if not thing.difficult]
        masks, scale = sample.gt_instances.masks.masks, sample.img_shape[0] / 120
        assert len(masks) == len(things)
        for mask, box, thing in zip(masks, sample.gt_instances.bboxes.tensor.numpy(), things, strict=True):
            inside = (numbers([thing], [1]) == 1)
            assert mask.sum() == pytest.approx(inside.sum() * scale**2, rel=0.05)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(extent - box).max() <= 4 * scale  # the border, and the tip of a triangle
