"""The same small data set, written in every form by code of its own."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

# file stem -> (split, width, height, [(class, x1, y1, x2, y2)])
TRUTH: dict[str, tuple[str, int, int, list[tuple[str, float, float, float, float]]]] = {
    'a': ('train', 101, 67, [('dog', 3.25, 4, 50.5, 60.125), ('ant', 0, 0, 101, 67)]),
    'b': ('train', 640, 480, [('cat', 100, 200, 300, 400)]),
    'c': ('train', 53, 97, []),
    'd': ('train', 333, 211, [('dog', 7.1, 8.2, 9.3, 10.4), ('dog', 200, 100, 332.9, 210.7)]),
    'e': ('val', 77, 90, [('ant', 10, 20, 30, 40)]),
    'f': ('val', 1300, 900, [('cat', 1.001, 2.002, 1299.003, 899.004)]),
}
IDS = {'cat': 3, 'dog': 4, 'ant': 9}


def write_image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(width * height).randint(0, 255, (4, 5, 3), np.uint8)
    Image.fromarray(pixels).resize((width, height)).save(path)


def coco(split: str | None, ids: dict[str, int] = IDS, first_id: int = 1) -> dict:
    """A COCO dict of one split, or of all images."""
    images, annotations = [], []
    for stem, (part, width, height, boxes) in TRUTH.items():
        if part != (split or part):
            continue
        images.append({'id': len(images) + first_id, 'file_name': f'{stem}.png', 'width': width, 'height': height})
        for name, x1, y1, x2, y2 in boxes:
            annotations.append({'id': len(annotations) + first_id, 'image_id': images[-1]['id'],
                                'category_id': ids[name], 'bbox': [x1, y1, x2 - x1, y2 - y1],
                                'area': (x2 - x1) * (y2 - y1), 'iscrowd': 0})
    return {'images': images, 'annotations': annotations,
            'categories': [{'id': number, 'name': name} for name, number in ids.items()]}


def write_images(folder: Path, by_split: bool = False, sub: str = '') -> None:
    for stem, (split, width, height, _) in TRUTH.items():
        write_image(folder / (split if by_split else '') / sub / f'{stem}.png', width, height)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def one_image_folder(root: Path) -> None:
    """train.json, val.json, images/: ids count from 1."""
    write_images(root / 'images')
    for split in ('train', 'val'):
        write_json(root / f'{split}.json', coco(split))


def like_coco(root: Path) -> None:
    """annotations/instances_train2017.json and train2017/, beside the keypoints; gappy ids from 0."""
    for split in ('train', 'val'):
        write_json(root / f'annotations/instances_{split}2017.json', coco(split, {'cat': 0, 'dog': 17, 'ant': 90}, 0))
        write_json(root / f'annotations/person_keypoints_{split}2017.json', coco(split))
    for stem, (split, width, height, _) in TRUTH.items():
        write_image(root / f'{split}2017' / f'{stem}.png', width, height)


def like_roboflow(root: Path) -> None:
    """train/_annotations.coco.json beside its images; the super-category has id 0, annotations count from 0."""
    write_images(root, by_split=True)
    for split, folder in (('train', 'train'), ('val', 'valid')):
        content = coco(split, {'animals': 0, 'cat': 1, 'dog': 2, 'ant': 3}, 0)
        write_json(root / folder / '_annotations.coco.json', content)
    (root / 'val').rename(root / 'images_of_val')
    for path in (root / 'images_of_val').iterdir():
        path.rename(root / 'valid' / path.name)


def _xml(stem: str, extra: str = '') -> str:
    _, width, height, boxes = TRUTH[stem]
    objects = ''.join(f'<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>'
                      f'<ymax>{y2}</ymax></bndbox></object>' for name, x1, y1, x2, y2 in boxes)
    return (f'<annotation>{extra}<filename>{stem}.png</filename><size><width>{width}</width><height>{height}</height>'
            f'<depth>3</depth></size>{objects}</annotation>')


def like_vocdevkit(root: Path) -> None:
    """VOC2012/{Annotations,JPEGImages,ImageSets/Main}; one image is in no set."""
    root = root / 'VOC2012'
    write_images(root / 'JPEGImages')
    write_image(root / 'JPEGImages/unused.png', 5, 5)
    for folder in ('Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    (root / 'Annotations/unused.xml').write_text(_xml(next(iter(TRUTH))))
    for split in ('train', 'val'):
        stems = [stem for stem, truth in TRUTH.items() if truth[0] == split]
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(stems) + '\n')
        (root / f'ImageSets/Main/cat_{split}.txt').write_text('a -1\n')
        for stem in stems:
            (root / f'Annotations/{stem}.xml').write_text(_xml(stem))


def xml_beside_images(root: Path) -> None:
    write_images(root, by_split=True)
    for stem, truth in TRUTH.items():
        (root / truth[0] / f'{stem}.xml').write_text(_xml(stem))


def _lines(stem: str, names: list[str]) -> str:
    _, width, height, boxes = TRUTH[stem]
    return ''.join(f'{names.index(name)} {(x1 + x2) / 2 / width:.9f} {(y1 + y2) / 2 / height:.9f} '
                   f'{(x2 - x1) / width:.9f} {(y2 - y1) / height:.9f}\n' for name, x1, y1, x2, y2 in boxes)


def like_ultralytics(root: Path) -> None:
    """images/train, labels/train and data.yaml with `path` of another machine; no file for the image without boxes."""
    for stem, (split, width, height, boxes) in TRUTH.items():
        write_image(root / f'images/{split}/{stem}.png', width, height)
        (root / f'labels/{split}').mkdir(parents=True, exist_ok=True)
        if boxes:
            (root / f'labels/{split}/{stem}.txt').write_text(_lines(stem, ['cat', 'dog', 'emu', 'ant']))
    (root / 'data.yaml').write_text('path: /elsewhere/data\ntrain: images/train\nval: images/val\n'
                                    'names:\n  0: cat\n  1: dog\n  2: emu\n  3: ant\n')


def like_roboflow_yolo(root: Path) -> None:
    """train/images, train/labels, and a data.yaml that names ../train/images."""
    write_images(root, by_split=True, sub='images')
    for stem, (split, *_) in TRUTH.items():
        (root / split / 'labels').mkdir(parents=True, exist_ok=True)
        (root / split / f'labels/{stem}.txt').write_text(_lines(stem, ['cat', 'dog', 'ant']))
    (root / 'data.yaml').write_text("train: ../train/images\nval: ../val/images\nnc: 3\nnames: ['cat', 'dog', 'ant']\n")


def like_darknet(root: Path) -> None:
    """classes.txt, and label files beside the images."""
    write_images(root, by_split=True)
    (root / 'classes.txt').write_text('cat\ndog\nant\n')
    for stem, (split, *_) in TRUTH.items():
        (root / split / f'{stem}.txt').write_text(_lines(stem, ['cat', 'dog', 'ant']))


def like_darknet_lists(root: Path) -> None:
    """All images and label files in one folder, and lists of images, which obj.data says the splits of."""
    write_images(root / 'data/obj')
    (root / 'data/obj.names').write_text('cat\ndog\nant\n')
    (root / 'data/obj.data').write_text('classes = 3\ntrain = data/train.txt\nvalid = data/second.txt\n'
                                        'names = data/obj.names\nbackup = backup/\n')
    for split, file in (('train', 'train.txt'), ('val', 'second.txt')):
        stems = [stem for stem, truth in TRUTH.items() if truth[0] == split]
        (root / 'data' / file).write_text(''.join(f'data/obj/{stem}.png\n' for stem in stems))
        for stem in stems:
            (root / f'data/obj/{stem}.txt').write_text(_lines(stem, ['cat', 'dog', 'ant']))


def like_lvis(root: Path) -> None:
    """lvis_v1_train.json, whose images are named by `coco_url` and have no `file_name`."""
    for split in ('train', 'val'):
        content = coco(split)
        for image in content['images']:
            image.update(coco_url=f'http://images.cocodataset.org/{split}2017/{image.pop("file_name")}',
                         neg_category_ids=[], not_exhaustive_category_ids=[])
        for box in content['annotations']:
            del box['iscrowd']
        write_json(root / f'lvis_v1_{split}.json', content)
    for stem, (split, width, height, _) in TRUTH.items():
        write_image(root / f'{split}2017' / f'{stem}.png', width, height)


def like_open_images(root: Path) -> None:
    """train-annotations-bbox.csv, class-descriptions-boxable.csv, train/; an image without boxes has no row."""
    labels = {'cat': '/m/01yrx', 'dog': '/m/0bt9lr', 'ant': '/m/0_k2'}
    for split in ('train', 'validation'):
        rows = ['ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf']
        for stem, (part, width, height, boxes) in TRUTH.items():
            if split.startswith(part):
                write_image(root / split / f'{stem}.png', width, height)
                rows += [f'{stem},xclick,{labels[name]},1,{x1 / width:.9f},{x2 / width:.9f},{y1 / height:.9f},'
                         f'{y2 / height:.9f},0,0,0' for name, x1, y1, x2, y2 in boxes]
        (root / f'{split}-annotations-bbox.csv').write_text('\n'.join(rows) + '\n')
    (root / 'class-descriptions-boxable.csv').write_text(''.join(f'{label},{name}\n' for name, label in labels.items()))


def like_open_images_v7(root: Path) -> None:
    """The same with a header above the class names, and quoted, as spreadsheets and R write it."""
    like_open_images(root)
    names = root / 'class-descriptions-boxable.csv'
    names.write_text('LabelName,DisplayName\n' + names.read_text())
    names.rename(root / 'oidv7-class-descriptions-boxable.csv')
    for path in root.glob('*.csv'):
        lines = path.read_text().splitlines()
        path.write_text(''.join(','.join(f'"{word}"' for word in line.split(',')) + '\n' for line in lines))


FORMS: list[Callable[[Path], None]] = [one_image_folder, like_coco, like_roboflow, like_vocdevkit, xml_beside_images,
                                       like_ultralytics, like_roboflow_yolo, like_darknet, like_darknet_lists,
                                       like_lvis, like_open_images, like_open_images_v7]


def write_squares(root: Path, names: list[str], splits: tuple[str, ...] = ('train', 'val')) -> Path:
    """Bright squares on noise as COCO JSON, eight images a split, with category ids 5, 15, 25, ..."""
    random = np.random.RandomState(0)
    categories = [{'id': 5 + 10 * index, 'name': name} for index, name in enumerate(names)]
    for split in splits:
        coco: dict[str, list] = {'images': [], 'annotations': [], 'categories': categories}
        (root / split).mkdir(parents=True)
        for number in range(1, 9):
            pixels = random.randint(0, 100, (64, 64, 3), np.uint8)
            pixels[10:40, 20:50] = 250
            Image.fromarray(pixels).save(root / split / f'{number}.png')
            coco['images'].append({'id': number, 'file_name': f'{number}.png', 'width': 64, 'height': 64})
            coco['annotations'].append({'id': number - 1, 'image_id': number, 'bbox': [20, 10, 30, 30],
                                        'category_id': categories[number % len(names)]['id']})
        (root / f'{split}.json').write_text(json.dumps(coco))
    return root
