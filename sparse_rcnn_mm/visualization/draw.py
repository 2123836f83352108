"""Draws boxes with readable labels on images of any size."""
from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .letters import FONT, drawable

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

# Smaller pictures are enlarged to a short side of at least this, so that labels are readable.
READABLE_SIDE = 480


class Mark(NamedTuple):
    """A box to draw."""
    box: Sequence[float]  # x1, y1, x2, y2 in pixels of the picture
    color: Color
    text: str = ''


def class_colors(number: int, palette: Sequence[Sequence[int]] | None = None) -> list[Color]:
    """A color for each class: from the palette if it is long enough, else hues that differ from class to class."""
    if palette is not None and len(palette) >= number:
        return [(int(r), int(g), int(b)) for r, g, b in palette[:number]]
    colors = []
    for index in range(number):
        # Steps of the golden angle keep any two neighboring classes apart.
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.9 if index % 2 else 0.7, 1.0)
        colors.append((int(red * 255), int(green * 255), int(blue * 255)))
    return colors


def enlarged(image: np.ndarray, short_side: int = READABLE_SIDE) -> tuple[Image.Image, int]:
    """Enlarge an image (H, W, 3) uint8 if it is small. Returns a Pillow image and the integer scale factor."""
    height, width = image.shape[:2]
    factor = max(1, round(short_side / min(height, width)))
    factor = max(1, min(factor, 4 * short_side // max(height, width)))  # limits the long side of thin images
    picture = Image.fromarray(np.ascontiguousarray(image))
    if factor > 1:
        picture = picture.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    return picture, factor


def draw_boxes(picture: Image.Image, marks: Sequence[Mark], font_size: int | None = None) -> Image.Image:
    """Draw the marks in place. Where boxes or labels overlap, the first of `marks` is on top.

    Boxes that reach far beyond the picture are cut off outside of it; one with a NaN is not drawn.
    """
    draw = ImageDraw.Draw(picture)
    short_side = min(picture.size)
    line = max(2, round(short_side / 240))
    limits = np.array([*picture.size, *picture.size]) + 4 * line
    boxes = np.array([mark.box for mark in marks], dtype=float).reshape(-1, 4).clip(-4 * line, limits)
    marks = [Mark(box.tolist(), mark.color, drawable(mark.text)) for mark, box in zip(marks, boxes, strict=True)
             if not np.isnan(box).any()]
    font = label_font(font_size or max(13, round(short_side / 36)))
    for mark in reversed(marks):
        _draw_rectangle(draw, mark, line)
    labels: list[tuple[Mark, Rectangle]] = []
    for mark in marks:
        place = _place_label(mark, font, picture.size, [taken for _, taken in labels]) if mark.text else None
        if place is not None:
            labels.append((mark, place))
    for mark, place in reversed(labels):
        draw.rectangle(place, fill=mark.color)
        draw.text((place[0] + 3, place[1] + 1), mark.text, font=font, fill=ink_on(mark.color), anchor='la')
    return picture


def _draw_rectangle(draw: ImageDraw.ImageDraw, mark: Mark, line: int) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in mark.box)
    if x2 - x1 > 2 * line and y2 - y1 > 2 * line:
        # A dark edge keeps a bright box visible on a bright image.
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0), width=line + 2)
    draw.rectangle((x1, y1, max(x2, x1), max(y2, y1)), outline=mark.color, width=line)


def _place_label(mark: Mark, font: ImageFont.FreeTypeFont, size: tuple[int, int],
                 taken: Sequence[Rectangle]) -> Rectangle | None:
    """The first of three places that covers no other label: above the box, inside, below. Above if all do.

    Returns None if the box is outside the picture.
    """
    width, height = font.getlength(mark.text) + 6, font.size * 1.25 + 2
    x1, y1, x2, y2 = (float(value) for value in mark.box)
    if x1 >= size[0] or y1 >= size[1] or x2 <= 0 or y2 <= 0:
        return None
    corners = [(x1, y1 - height), (x2 - width, y1 - height), (x1, y1), (x2 - width, y1), (x1, y2 - height), (x1, y2),
               (x2 - width, y2)]
    places = [_inside(left, top, width, height, size) for left, top in corners]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _inside(left: float, top: float, width: float, height: float, size: tuple[int, int]) -> Rectangle:
    left, top = max(0.0, min(left, size[0] - width)), max(0.0, min(top, size[1] - height))
    return left, top, left + width, top + height


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def ink_on(color: Color) -> Color:
    """Black or white, whichever is easier to read on the color."""
    return (0, 0, 0) if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140 else (255, 255, 255)


@functools.lru_cache(maxsize=16)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of labels and captions."""
    return ImageFont.truetype(FONT, size) if FONT else ImageFont.load_default(size)  # type: ignore[return-value]
