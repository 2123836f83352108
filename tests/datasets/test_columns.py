"""Columns of an annotation file: the same values as its dicts, kept in one file that is never stale nor damaged."""
from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparse_rcnn_mm.datasets import CocoDataset, coco_decode, column_cache
from sparse_rcnn_mm.datasets.array_file import open_arrays, write_arrays
from sparse_rcnn_mm.datasets.coco_columns import CROWD, CocoColumns
from sparse_rcnn_mm.datasets.coco_decode import columns_of, decode_columns
from sparse_rcnn_mm.datasets.column_cache import read_columns
from sparse_rcnn_mm.datasets.secret_key import secret_key
from sparse_rcnn_mm.errors import UserError

SEGMENTATIONS: list[Any] = [
    None, [], [[]], [[1, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 6, 7]], [[-1.5, 2, 3, 4, 5, 6], [1]],
    [[1, 2], [1, 2, 3, 4, 5, 6]], [[1, 2], []], [1, 2, 3], {'counts': [1, 2], 'size': [3, 4]}, [[[1, 2, 3, 4, 5, 6]]],
    [['1,2,3,4,5,6']], [{'a': [1, 2]}], 'text', 0]


def _coco(seed: int, images: int = 30, annotations: int = 300) -> dict[str, list[dict]]:
    rng = random.Random(seed)
    ids = rng.sample(range(-5, 10**12), images)
    names = [rng.choice(['b', 'a/ü', '\U0001f600', '', '￿']) + str(rng.randrange(9)) for _ in range(images)]
    return {
        'images': [{'id': id_, 'file_name': name, 'width': rng.choice([20, 10**4]), 'height': rng.choice([20, 21]),
                    'extra': {'nested': ['},{']}} for id_, name in zip(ids, names, strict=True)],
        'categories': [{'id': 7, 'name': 'cat'}, {'id': 0, 'name': 'dog'}, {'id': 3, 'name': 'fox'}],
        'annotations': [{
            'id': index, 'image_id': rng.choice(ids), 'category_id': rng.choice([7, 0, 3]),
            'area': rng.random() * 1e3 if seed % 2 else rng.randrange(1000),  # in some files, all are whole numbers
            'bbox': [rng.choice([rng.uniform(-9, 9), 3, 1e-7, 0.1]) for _ in range(2)]
            + [rng.choice([rng.uniform(0, 9), 3, 1e-7, 0.1]) for _ in range(2)],
            'iscrowd': rng.choice([0, 0, 0, 1, False]), 'segmentation': rng.choice(SEGMENTATIONS),
            **rng.choice([{}, {}, {}, {'ignore': 1}, {'ignore': None}])} for index in range(annotations)]}


def _expected(coco: dict, classes: tuple[str, ...]) -> list[dict]:
    """A second implementation, on the dicts of the file."""
    label_of = {category['id']: classes.index(category['name']) for category in coco['categories']
                if category['name'] in classes}

    def kept(entry: dict) -> bool:
        polygons = entry.get('segmentation')
        invalid = bool(polygons) and isinstance(polygons, list) and all(
            isinstance(polygon, list) and (len(polygon) < 6 or len(polygon) % 2) for polygon in polygons)
        return not (entry.get('iscrowd') or entry.get('ignore') or invalid) and entry['category_id'] in label_of

    found = []
    for image in sorted(coco['images'], key=lambda image: (image['file_name'], image['id'])):
        entries = [entry for entry in coco['annotations'] if entry['image_id'] == image['id'] and kept(entry)]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (entry['bbox'] for entry in entries)]
        found.append({
            'img_path': f'/images/{image["file_name"]}', 'img_id': image['id'], 'height': image['height'],
            'width': image['width'], 'sample_idx': len(found), 'instances': [
                {'bbox': box, 'bbox_label': label_of[entry['category_id']], 'ignore_flag': 0}
                for box, entry in zip(boxes, entries, strict=True)]})
    return found


@pytest.fixture(params=['in memory', 'mapped', 'patient'])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != 'in memory':
        monkeypatch.setattr(column_cache, 'SMALL', 0)
    return request.param


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(column_cache, 'SMALL', 0)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache folder."""
    folder = tmp_path_factory.mktemp('home')
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    return folder / 'sparse_rcnn_mm'


def _dataset(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> CocoDataset:
    monkeypatch.setattr(CocoDataset, '_check_images', lambda self, first: None)
    return CocoDataset(**{'ann_file': str(path), 'data_prefix': {'img': '/images'},
                          'metainfo': {'classes': ('fox', 'cat')}, **options})


@pytest.mark.parametrize('seed', range(5))
def test_every_value_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str,
                                         seed: int) -> None:
    coco = _coco(seed)
    path = tmp_path / 'coco.json'
    # NaN is no JSON, but Python writes it: the patient reader takes it where it does not matter
    path.write_text(json.dumps({**coco, 'info': float('nan')}, indent=seed % 2) if route == 'patient'
                    else json.dumps(coco, ensure_ascii=bool(seed % 2)))
    if route != 'patient':
        monkeypatch.setattr(column_cache, 'columns_of', lambda coco: pytest.fail('read by the patient reader'))
    dataset = _dataset(path, monkeypatch)
    expected = _expected(coco, ('fox', 'cat'))
    assert [dataset.get_data_info(index) for index in range(len(dataset))] == expected
    assert dataset.get_data_info(-1) == expected[-1]
    assert (dataset._columns.file is None) == (route == 'in memory')
    labels = [[box['bbox_label'] for box in image['instances']] for image in expected]
    assert [dataset.get_cat_ids(index) for index in range(len(dataset))] == labels
    assert dataset.labels_in_images().tolist() == [
        [index, label] for index, present in enumerate(labels) for label in sorted(set(present))]
    assert dataset.image_sizes().tolist() == [[image['width'], image['height']] for image in expected]


def test_subsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'coco.json').write_text(json.dumps(_coco(0)))
    dataset = _dataset(tmp_path / 'coco.json', monkeypatch)
    ids = [dataset.get_data_info(index)['img_id'] for index in range(30)]

    def chosen(dataset: CocoDataset) -> list[int]:
        return [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]

    assert chosen(dataset.get_subset(4)) == ids[:4]
    assert chosen(dataset.get_subset(-4)) == ids[-4:]
    picked = dataset.get_subset([5, 2, 5, -1])
    assert chosen(picked) == [ids[5], ids[2], ids[5], ids[29]]
    assert picked.labels_in_images().tolist() == [
        [index, label] for index in range(4) for label in sorted(set(picked.get_cat_ids(index)))]
    assert chosen(dataset) == ids
    assert chosen(_dataset(tmp_path / 'coco.json', monkeypatch, indices=[3, 1])) == [ids[3], ids[1]]
    with_boxes = _dataset(tmp_path / 'coco.json', monkeypatch, filter_cfg={'filter_empty_gt': True, 'min_size': 21})
    assert chosen(with_boxes) == [image['img_id'] for image in _expected(_coco(0), ('fox', 'cat'))
                                  if image['instances'] and min(image['width'], image['height']) >= 21]
    assert 0 < len(with_boxes) < 30


def test_proposals_from_a_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r'proposal_file of the data set is not supported.*remove p\.pkl'):
        _dataset(tmp_path, monkeypatch, proposal_file='p.pkl')


def _read(path: Path) -> list[int]:
    return read_columns(str(path), False, '').annotation_ids.tolist()


@pytest.fixture
def written(tmp_path: Path, large: None) -> Path:
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(_coco(1, annotations=9)))
    assert _read(path)
    return path


def _cache(path: Path) -> Path:
    return path.with_name('.coco.json.columns')


def test_one_file_beside_the_json_and_nothing_else(written: Path) -> None:
    assert sorted(os.listdir(written.parent)) == ['.coco.json.columns', 'coco.json']


def test_a_change_that_hides_is_seen(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same size and modification time, and so soon that the file system's clock may not have moved."""
    monkeypatch.setattr(column_cache, '_state', lambda path: [0])  # as if no time or number ever changed
    _cache(written).unlink()
    first = _read(written)
    before = written.stat()
    text = written.read_text()
    assert text.count('"id": 8,') == 1
    written.write_text(text.replace('"id": 8,', '"id": 9,'))
    os.utime(written, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sorted(_read(written)) == sorted([9 if number == 8 else number for number in first])


def test_a_copy_is_recognized_by_its_content(written: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = _read(written)
    os.utime(written, ns=(0, 0))
    monkeypatch.setattr(column_cache, 'decode_columns', lambda text, masks: pytest.fail('parsed again'))
    assert _read(written) == first
    monkeypatch.setattr(column_cache, '_TICK', -10**12)
    assert _read(written) == first


def test_old_and_unchanged_is_not_read_again(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_cache, '_TICK', -10**12)
    monkeypatch.setattr(column_cache, '_sha256', lambda path: pytest.fail('the annotation file was read'))
    assert _read(written)


def test_any_damage_is_found(written: Path) -> None:
    """One bit flipped anywhere, the file cut off anywhere, empty or something else: it is made again."""
    first, whole = _read(written), _cache(written).read_bytes()
    rng = random.Random(0)
    padding = 0
    for position in [*rng.sample(range(len(whole)), 60), 0, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        _cache(written).write_bytes(damaged)
        padding += open_arrays(_cache(written)) is not None  # between two arrays, where nothing is
        assert _read(written) == first
    assert padding < 15
    for content in (whole[:length] for length in (0, 10, 30, 500, len(whole) - 1)):
        _cache(written).write_bytes(content)
        assert open_arrays(_cache(written)) is None
        assert _read(written) == first
    assert open_arrays(_cache(written)) is not None
    write_arrays(_cache(written), {}, {'other': np.zeros(3)}, secret_key())
    assert _read(written) == first


def test_where_it_cannot_be_written(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the annotation file, else in the user's cache, else nowhere."""
    path = tmp_path / 'read_only' / 'coco.json'
    path.parent.mkdir()
    path.write_text(json.dumps(_coco(1)))
    write = column_cache.write_arrays

    def refused(place: Path, *content: Any) -> None:
        if place.parent == path.parent:
            raise PermissionError('read-only')
        write(place, *content)

    parses: list[int] = []
    decode = column_cache.decode_columns
    monkeypatch.setattr(column_cache, 'decode_columns', lambda text, masks: parses.append(1) or decode(text, masks))
    monkeypatch.setattr(column_cache, 'write_arrays', refused)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    assert read_columns(str(path), False, '').file in (tmp_path / 'cache/sparse_rcnn_mm').iterdir()
    monkeypatch.setenv('XDG_CACHE_HOME', str(path))  # no folder
    assert read_columns(str(path), False, '').file is None
    assert len(parses) == 2  # once each time, however many places refuse


def _forged(path: Path, key: bytes) -> CocoColumns:
    """Put columns beside the annotation file that say that they are current, and hold other boxes."""
    columns = read_columns(str(path), False, '')
    arrays = {**columns.arrays(), 'boxes': np.ones_like(columns.boxes)}
    write_arrays(_cache(path), columns.header, arrays, key)
    return columns


def test_columns_that_came_with_the_file_are_not_used(written: Path, home: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """They say the right SHA-256, time and inode. They stay where they are, so that nobody replaces another's."""
    true = _forged(written, b'another key').boxes.tolist()
    forged = _cache(written).read_bytes()
    columns = read_columns(str(written), False, '')
    assert columns.boxes.tolist() == true and columns.file is not None and columns.file.parent == home
    monkeypatch.setattr(column_cache, 'decode_columns', lambda text, masks: pytest.fail('parsed again'))
    assert read_columns(str(written), False, '').file == columns.file
    assert _cache(written).read_bytes() == forged
    monkeypatch.undo()


def test_own_columns_are_bound_to_every_value(written: Path, home: Path) -> None:
    """Sealed by this user, and then an array is replaced: the seal covers all of them."""
    true = read_columns(str(written), False, '').boxes.copy()
    content = _cache(written).read_bytes()
    assert content.count(true.tobytes()) == 1
    _cache(written).write_bytes(content.replace(true.tobytes(), np.ones_like(true).tobytes()))
    assert read_columns(str(written), False, '').boxes.tolist() == true.tolist()
    assert read_columns(str(written), False, '').file == _cache(written)


def test_two_users_of_a_folder(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each parses once, then both find their own."""
    parses: list[int] = []
    decode = column_cache.decode_columns
    monkeypatch.setattr(column_cache, 'decode_columns', lambda text, masks: parses.append(1) or decode(text, masks))
    first = os.environ['XDG_CACHE_HOME']
    for user in (str(tmp_path / 'second'), first, str(tmp_path / 'second'), first):
        monkeypatch.setenv('XDG_CACHE_HOME', user)
        assert _read(written)
    assert len(parses) == 1  # the first user's is there


@pytest.mark.parametrize('content', [b'', b'short', bytes(33)])
def test_a_damaged_key_is_not_used(content: bytes, written: Path, home: Path) -> None:
    (home / 'key').write_bytes(content)
    assert read_columns(str(written), False, '').file is None


def test_after_the_key_was_deleted_caches_are_used_again(written: Path, home: Path) -> None:
    """The one beside the file may be another user's and stays; the one in the own folder is replaced."""
    before = _cache(written).read_bytes()
    for _ in range(2):
        (home / 'key').unlink()
        for _ in range(2):
            columns = read_columns(str(written), False, '')
            assert columns.file is not None and columns.file.parent == home
    assert _cache(written).read_bytes() == before


def test_the_key_is_one_and_private(home: Path, context: Any) -> None:
    results = context.Queue()
    processes = [context.Process(target=lambda: results.put(secret_key())) for _ in range(8)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {secret_key()}
    for process in processes:
        process.join()
    assert os.listdir(home) == ['key'] and (home / 'key').stat().st_mode & 0o777 == 0o600 and len(secret_key()) == 32


@pytest.mark.parametrize('ending', ['', '.lock', '.PID.unfinished'])
def test_pipes_and_links_beside_the_file(ending: str, tmp_path: Path, large: None) -> None:
    """A pipe is not waited for, and what a link points to is not written to."""
    name = f'.coco.json.columns{ending}'.replace('PID', str(os.getpid()))
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(_coco(1, annotations=9)))
    precious = tmp_path / 'precious'
    precious.write_text('mine')
    (tmp_path / name).symlink_to(precious)
    assert len(_read(path)) == 9 and precious.read_text() == 'mine'
    _cache(path).unlink(missing_ok=True)
    if not name.endswith('lock'):
        os.mkfifo(tmp_path / name)
        assert len(_read(path)) == 9


def test_without_a_place_for_the_key_nothing_is_cached(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what is there: whose it is cannot be known."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(written))  # no folder
    columns = read_columns(str(written), False, '')
    assert columns.file is None and len(columns.annotation_ids) == 9


def test_a_file_system_without_links_for_the_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError('no links here')

    monkeypatch.setattr(os, 'link', refused)
    assert len(secret_key()) == 32 and secret_key() == secret_key() and os.listdir(home) == ['key']


def test_the_first_key_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes it between the look and the writing."""
    link = os.link

    def late(source: Any, target: Any) -> None:
        Path(target).write_bytes(b'k' * 32)
        link(source, target)

    monkeypatch.setattr(os, 'link', late)
    assert secret_key() == b'k' * 32 and os.listdir(home) == ['key']


def test_a_file_system_without_locks(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(lock: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(column_cache.FileLock, 'acquire', refused)
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(_coco(1, annotations=9)))
    assert read_columns(str(path), False, '').file == _cache(path)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(_coco(1, annotations=9)))
    decode = column_cache.decode_columns

    def slowly(text: Any, masks: bool) -> Any:
        columns = decode(text, masks)
        path.write_text(json.dumps(_coco(2)))
        return columns

    monkeypatch.setattr(column_cache, 'decode_columns', slowly)
    with pytest.raises(UserError, match=r'coco\.json changed while it was being read: start again'):
        _read(path)
    assert not _cache(path).exists()


def test_a_file_that_is_not_there_and_one_on_other_storage(tmp_path: Path, large: None) -> None:
    path = tmp_path / 'coco.json'
    with pytest.raises(UserError, match=r'annotation file not found: .*coco\.json; fetch it'):
        read_columns(str(path), False, 'fetch it')
    path.write_text(json.dumps(_coco(1, annotations=9)))
    columns = read_columns(str(path), False, '', backend_args={'backend': 'local'})
    assert columns.file is None and len(columns.annotation_ids) == 9 and os.listdir(tmp_path) == ['coco.json']


def _count_parses(path: Path, log: Path, out: Any) -> None:
    decode = column_cache.decode_columns

    def counted(text: Any, masks: bool) -> Any:
        with log.open('a') as file:
            file.write('x')
        return decode(text, masks)

    column_cache.decode_columns = counted  # type: ignore[assignment]
    out.put(len(_read(path)))


@pytest.fixture
def context() -> Any:
    return multiprocessing.get_context('fork')


def test_the_first_process_parses_for_all(tmp_path: Path, large: None, context: Any) -> None:
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(_coco(2, annotations=3000)))
    results = context.Queue()
    processes = [context.Process(target=_count_parses, args=(path, tmp_path / 'log', results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [3000] * 4
    for process in processes:
        process.join()
    assert (tmp_path / 'log').read_text() == 'x'


def test_a_spawned_worker_maps_the_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = read_columns(str(written), False, '')
    state = pickle.dumps(columns)
    assert len(state) < 500
    again = pickle.loads(state)
    for name, array in columns.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    assert not again.boxes.flags.owndata and not again.boxes.flags.writeable
    written.write_text(json.dumps(_coco(3)))
    _read(written)
    with pytest.raises(UserError, match='was replaced while it was in use'):
        pickle.loads(state)


def test_the_columns_in_memory_travel_whole(tmp_path: Path) -> None:
    (tmp_path / 'coco.json').write_text(json.dumps(_coco(1)))
    columns = read_columns(str(tmp_path / 'coco.json'), False, '')
    again = pickle.loads(pickle.dumps(columns))
    assert again.boxes.tolist() == columns.boxes.tolist() and again.header == columns.header


@pytest.mark.parametrize('change', ['', 'area', 'iscrowd', 'annotations'])
@pytest.mark.parametrize('masks', [False, True])
def test_both_readers_give_the_same_columns(monkeypatch: pytest.MonkeyPatch, change: str, masks: bool) -> None:
    """The fast one in slices of seven entries, whose borders the others do not have."""
    coco = _coco(3, images=30, annotations=40)
    for entry in coco['annotations']:
        entry.setdefault('ignore', 0)
        entry['area'] = float(entry['area'])
    if change == 'annotations':
        coco['annotations'] = []
    elif change:
        del coco['annotations'][39][change]
    monkeypatch.setattr(coco_decode, '_SLICE', 7)
    fast, patient = decode_columns(json.dumps(coco).encode(), masks), columns_of(coco, masks)
    for field in fields(CocoColumns):
        if isinstance(value := getattr(fast, field.name), np.ndarray) and not field.name.startswith('segmentation'):
            np.testing.assert_array_equal(value, getattr(patient, field.name), field.name)
    assert [json.loads(text) for text in _texts(fast)] == [json.loads(text) for text in _texts(patient)]
    assert len(_texts(fast)) == masks * len(coco['annotations'])
    assert fast.header['for_metric'] == patient.header['for_metric'] == (change not in ('area', 'iscrowd'))
    assert fast.header['categories'] == patient.header['categories'] == coco['categories']
    assert fast.header['first_image'] == patient.header['first_image'] == coco['images'][0]['file_name']


@pytest.mark.parametrize('evaluated', [False, True])
def test_flags_may_be_words_and_annotations_may_be_missing(tmp_path: Path, route: str, evaluated: bool) -> None:
    coco = _coco(1, annotations=3)
    for flag, entry in zip((True, False, True), coco['annotations'], strict=True):
        entry['iscrowd'] = flag
    path = tmp_path / 'coco.json'
    for entries in (coco['annotations'], []):
        info = float('nan' if route == 'patient' else 0)
        path.write_text(json.dumps({**coco, 'annotations': entries, 'info': info}))
        columns = read_columns(str(path), evaluated, '')
        assert (columns.flags & CROWD).sum() == 2 * bool(entries) and len(columns.boxes) == len(entries)


def _texts(columns: CocoColumns) -> list[bytes]:
    starts = [0, *columns.segmentation_ends[:-1]]
    return [columns.segmentations[start:end].tobytes()
            for start, end in zip(starts, columns.segmentation_ends, strict=False)]


def test_the_metric_is_asked_for_more(tmp_path: Path, route: str) -> None:
    coco = _coco(1, annotations=3)
    del coco['annotations'][2]['area']
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    assert np.isnan(read_columns(str(tmp_path / 'coco.json'), False, '').areas).sum() == 1
    with pytest.raises(UserError, match=r"entry 2 of 'annotations' .* has no 'area'"):
        read_columns(str(tmp_path / 'coco.json'), True, '')


@pytest.mark.parametrize(('list_', 'change'), [
    ('annotations', {'area': 1e9}), ('annotations', {'area': 1.001e9}), ('annotations', {'area': -1e300}),
    ('annotations', {'area': None}), ('annotations', {'area': 0}), ('annotations', {'iscrowd': 1e300}),
    ('annotations', {'bbox': [-1e9, 1e9, 1e9, 0]}), ('annotations', {'bbox': [0, 0, 1.001e9, 1]}),
    ('annotations', {'bbox': [-1.001e9, 0, 1, 1]}), ('annotations', {'id': 2 ** 53 - 1}),
    ('annotations', {'id': 2 ** 53}), ('annotations', {'id': -2 ** 53}), ('images', {'id': 2 ** 53}),
    ('images', {'width': 1e9}), ('images', {'height': 1.001e9}), ('categories', {'id': 2 ** 60}),
    ('annotations', {'id': -2 ** 63}), ('images', {'id': -2 ** 63}), ('categories', {'id': -2 ** 63}),
], ids=str)
@pytest.mark.parametrize('evaluated', [False, True])
def test_both_readers_have_one_rule_for_large_numbers(list_: str, change: dict, evaluated: bool,
                                                      tmp_path: Path) -> None:
    """What the fast one reads is what the patient one reads, and what it leaves to that one is refused there."""
    coco = _coco(1, annotations=3)
    coco[list_].append({**coco[list_][0], 'id': 99, 'name': 'emu', **change})
    path = tmp_path / 'coco.json'
    found: list[Any] = []
    for other in (0, float('nan')):  # NaN sends the whole file to the patient reader
        path.write_text(json.dumps({**coco, 'info': other}))
        try:
            columns = read_columns(str(path), evaluated, '')
            found.append([columns.header['for_metric'], *(getattr(columns, name).tolist() for name in (
                'areas', 'boxes', 'sizes', 'flags', 'annotation_ids'))])
        except UserError as error:
            found.append(str(error))
    np.testing.assert_equal(found[0], found[1])


def test_an_area_above_the_limit_is_none(tmp_path: Path) -> None:
    coco = _coco(1, annotations=3)
    coco['annotations'][1]['area'] = 2e9
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    columns = read_columns(str(tmp_path / 'coco.json'), False, '')
    assert np.isnan(columns.areas).tolist() == (columns.annotation_ids == 1).tolist()
    with pytest.raises(UserError, match=r"entry 1 of 'annotations' .* has 2000000000.0 as 'area', which"):
        read_columns(str(tmp_path / 'coco.json'), True, '')


@pytest.mark.parametrize(('change', 'sentence'), [
    ({'iscrowd': 'no'}, r"has 'no' as 'iscrowd', which is neither 0 nor 1"),
    ({'id': 2**70}, r"whole number as 'id'"),
    ({'bbox': [10**400, 0, 1, 1]}, r"needs 'bbox' as"),
    ({'bbox': [0, 0, float('inf'), 1]}, r"needs 'bbox' as"),
])
def test_odd_numbers_are_refused(tmp_path: Path, route: str, change: dict, sentence: str) -> None:
    coco = _coco(1, annotations=3)
    coco['annotations'][2].update(change)
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    with pytest.raises(UserError, match=sentence):
        read_columns(str(tmp_path / 'coco.json'), False, '')


def test_deep_brackets_and_a_width_of_nan(tmp_path: Path) -> None:
    (tmp_path / 'coco.json').write_text('{"images": ' + '[' * 100_000)
    with pytest.raises(UserError, match='nested too deeply'):
        read_columns(str(tmp_path / 'coco.json'), False, '')
    coco = _coco(1)
    coco['images'][4]['width'] = float('nan')
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    with pytest.raises(UserError, match=r"entry 4 of 'images' .* positive number of pixels as 'width', not nan"):
        read_columns(str(tmp_path / 'coco.json'), False, '')


def test_no_dict_is_kept(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker gets does not grow with the file."""
    sizes = []
    for count in (10, 1000):
        path = tmp_path / f'{count}.json'
        path.write_text(json.dumps(_coco(1, annotations=count)))
        sizes.append(len(pickle.dumps(_dataset(path, monkeypatch))))
    assert abs(sizes[1] - sizes[0]) < 50
