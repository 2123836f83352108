"""Names of pictures."""
from __future__ import annotations

from pathlib import Path

import pytest

from sparse_rcnn_mm.inference.names import below_common_folder, picture_names


def test_names_are_paths_below_the_common_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert below_common_folder(['x/a/1.jpg', f'{tmp_path}/x/b/1.jpg', 'x/b/../b/c/2.jpg', 'x/a/1.jpg']) == [
        'a/1.jpg', 'b/1.jpg', 'b/c/2.jpg', 'a/1.jpg']
    assert below_common_folder(['x/a/1.jpg']) == ['1.jpg']
    assert below_common_folder(['x/a/1.jpg', 'x/a/b.jpg/1.jpg']) == ['1.jpg', 'b.jpg/1.jpg']
    assert below_common_folder([]) == []


def test_each_picture_has_a_name_of_its_own() -> None:
    """In any order; the number goes to the picture of the file that is not called so itself."""
    names = ['a.tif', 'a.tif.jpg', 'b.png', 'B.PNG', 'sub/b.png', 'c.avi', 'c.mp4', 'c.avi.mp4', 'd.jpeg']
    pictures = dict(zip(names, picture_names(names), strict=True))
    assert pictures == {'a.tif': 'a.tif_2.jpg', 'a.tif.jpg': 'a.tif.jpg', 'b.png': 'b.png', 'B.PNG': 'B_2.PNG',
                        'sub/b.png': 'sub/b.png', 'c.avi': 'c.avi_2.mp4', 'c.mp4': 'c.mp4', 'c.avi.mp4': 'c.avi.mp4',
                        'd.jpeg': 'd.jpeg'}
    assert len({picture.lower() for picture in pictures.values()}) == len(names)
    back = names[::-1]
    assert dict(zip(back, picture_names(back), strict=True)) == {**pictures, 'b.png': 'b_2.png', 'B.PNG': 'B.PNG'}
