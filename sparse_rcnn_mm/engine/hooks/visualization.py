"""Pictures of the detections of a test, one for every image."""
from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from mmdet.structures import DetDataSample
from mmengine.fileio import get

from sparse_rcnn_mm.datasets.decoding import opened, pixels
from sparse_rcnn_mm.inference.names import below_common_folder, picture_names
from sparse_rcnn_mm.registry import HOOKS

with contextlib.redirect_stdout(io.StringIO()):  # onedl-mmdetection prints a notice
    from mmdet.engine.hooks import DetVisualizationHook as MMDetVisualizationHook


@HOOKS.register_module()
class DetVisualizationHook(MMDetVisualizationHook):
    """mmdet's hook, but images of the same file name in several folders keep a picture each.

    A picture's name is the image's path below the common folder of the data set's images. All kinds of images that the
    data set reads are drawn, from the same pixels. A relative `test_out_dir` is below WORK_DIR/TIMESTAMP.
    """

    test_out_dir: str | None
    _names: dict[str, str] | None = None

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: dict,
                        outputs: Sequence[DetDataSample]) -> None:
        """Draw the detections of a batch."""
        if not self.draw:
            return
        for sample in outputs:
            self._test_index += 1
            path = sample.img_path
            with opened(BytesIO(get(path, backend_args=self.backend_args))) as image:
                picture = pixels(image)
            self._visualizer.add_datasample(
                Path(path).name if self.show else 'test_img', picture, data_sample=sample, show=self.show,
                wait_time=self.wait_time, pred_score_thr=self.score_thr, out_file=self._file(runner, path),
                step=self._test_index)

    def _file(self, runner: Any, path: str) -> str | None:
        """Where the picture of an image goes. Every process gives all images the same names."""
        if self.test_out_dir is None:
            return None
        if self._names is None:
            dataset = runner.test_dataloader.dataset
            paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
            self._names = dict(zip(paths, picture_names(below_common_folder(paths)), strict=True))
        return str(Path(runner.work_dir, runner.timestamp, self.test_out_dir, self._names[path]))
