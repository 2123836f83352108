"""Draws how boxes move from learned proposals to detections, stage by stage, as in the figures of the paper."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .draw import Color, Mark, class_colors, draw_boxes, label_font
from .masks import draw_masks

_FAINT = (150, 150, 150)
_CAPTION_COLOR = (255, 255, 255)


@dataclass(frozen=True)
class StageBoxes:
    """N proposals of one image at S + 1 moments: as learned, and after each of S stages.

    Attributes:
        boxes: (S + 1, N, 4) x1, y1, x2, y2 in pixels of the original image.
        scores: (S, N) the score of each proposal's final class after each stage.
        labels: (N,) the final class: the best one after the last stage.
        names: (N,) name of the final class.
        kept: (n,) proposals whose last score reaches the threshold, best first.
        points: (S, N, P, 2) x, y of the points that each proposal sampled in each stage (AdaMixer); P is 0 for stages
            that pool the features of the whole box.
        masks: (S, n, height, width) bool, the masks of `kept` after each stage in pixels of the original image; None
            for models without masks.
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    kept: np.ndarray
    points: np.ndarray
    masks: np.ndarray | None = None

    @property
    def num_stages(self) -> int:
        """S."""
        return len(self.scores)

    def title(self, moment: int) -> str:
        """The caption of a moment: 0 is the proposals, k is stage k."""
        return 'proposals' if moment == 0 else f'stage {moment}'


def stage_panels(image: np.ndarray, stages: StageBoxes, columns: int | None = None, side: int = 480) -> Image.Image:
    """One picture with a panel for the learned proposals and one for each stage."""
    panels = [panel(image, stages, moment, side) for moment in range(stages.num_stages + 1)]
    width, height = panels[0].size
    columns = columns or (len(panels) if len(panels) <= 4 else 4)
    rows = -(-len(panels) // columns)
    gap = 6
    page = Image.new('RGB', (columns * (width + gap) - gap, rows * (height + gap) - gap), (255, 255, 255))
    for index, picture in enumerate(panels):
        page.paste(picture, (index % columns * (width + gap), index // columns * (height + gap)))
    return page


def animate_stages(image: np.ndarray, stages: StageBoxes, path: Path, side: int = 480, steps: int = 6,
                   seconds: float = 1.2) -> None:
    """Write an animated GIF in which the boxes move from stage to stage and pause at each."""
    frames, durations = [], []
    for moment, pause in _moments(stages.num_stages, steps):
        frames.append(panel(image, stages, moment, side))
        durations.append(int(seconds * 1000) if pause else 60)
    durations[-1] *= 2
    # With one palette for all frames the image does not flicker, and unchanged areas take no space in the file.
    palette = _montage([frames[0], frames[-1]]).quantize(64, dither=Image.Dither.NONE)
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    reduced[0].save(path, save_all=True, append_images=reduced[1:], duration=durations, loop=0, optimize=True)


def panel(image: np.ndarray, stages: StageBoxes, moment: float, side: int = 480) -> Image.Image:
    """Draw the image with a caption at a moment from 0 (learned proposals) to S (last stage).

    Between two whole moments the boxes are interpolated, and there are no labels and no masks.
    """
    picture, factor = _scaled(image, side)
    before, part = int(moment), moment - int(moment)
    after = min(before + 1, stages.num_stages)
    boxes = ((1 - part) * stages.boxes[before] + part * stages.boxes[after]) * factor
    resting = part == 0
    if moment == 0:
        draw_thin(picture, np.delete(boxes, stages.kept, axis=0))
    colors = class_colors(len(stages.kept))
    if resting and before and stages.masks is not None:
        draw_masks(picture, stages.masks[before - 1], colors)
    marks = [Mark(boxes[query], color, f'{stages.names[query]} {stages.scores[before - 1, query]:.2f}'
                  if resting and before else '') for query, color in zip(stages.kept, colors, strict=True)]
    draw_boxes(picture, marks)
    if resting and before:
        for query, color in zip(stages.kept, colors, strict=True):
            draw_points(picture, stages.points[before - 1, query] * factor, color)
    return _captioned(picture, stages.title(before if part < 0.5 else after))


def draw_thin(picture: Image.Image, boxes: Sequence[Sequence[float]] | np.ndarray, color: Color = _FAINT) -> None:
    """Draw boxes (n, 4) as thin lines, in place."""
    draw = ImageDraw.Draw(picture)
    for x1, y1, x2, y2 in np.asarray(boxes).tolist():
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=color)


def draw_points(picture: Image.Image, points: np.ndarray, color: Color) -> None:
    """Draw points (P, 2) as dots of 3 pixels, in place."""
    draw = ImageDraw.Draw(picture)
    for x, y in np.rint(points).tolist():
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=color)


def _moments(num_stages: int, steps: int) -> Iterator[tuple[float, bool]]:
    """The moment of each frame, and whether to pause there."""
    yield 0.0, True
    for stage in range(num_stages):
        for step in range(1, steps):
            part = step / steps
            yield stage + part * part * (3 - 2 * part), False  # slow at both ends
        yield stage + 1.0, True


def _scaled(image: np.ndarray, side: int) -> tuple[Image.Image, float]:
    """The image resized to a long side of `side` pixels, and the scale factor."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    factor = side / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS), factor


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    size = max(13, min(picture.size) // 26)
    page = Image.new('RGB', (picture.width, picture.height + size + 10), (32, 32, 32))
    page.paste(picture, (0, size + 10))
    ImageDraw.Draw(page).text((8, 4), text, font=label_font(size), fill=_CAPTION_COLOR)
    return page


def _montage(pictures: Sequence[Image.Image]) -> Image.Image:
    page = Image.new('RGB', (pictures[0].width, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        page.paste(picture, (0, top))
        top += picture.height
    return page
