"""A labelled strip of a few images with the result of every step: the picture for a README or a paper."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfwsss.errors import DataError
from tfwsss.report.rows import ImageRow, draw_row, used_columns
from tfwsss.storage.atomic import atomic_path

MAX_BYTES = 300_000
MAX_TILE = 176  # pixels of a panel's long side; smaller tiles are tried until the file is small enough
GAP, HEADING_HEIGHT, FONT_SIZE = 4, 24, 13
COLOURS = 256
PAPER, TEXT = (255, 255, 255), (60, 66, 74)


def strip(rows: list[ImageRow], path) -> None:
    """Write a PNG of less than 300 kB, atomically: one line for each image, one column for each step that any row has.

    Args:
        rows: the images, a handful.
        path: of the PNG file; folders are created.

    Raises:
        DataError: no rows, or an array of a row does not have the documented shape or type.
    """
    if not rows:
        raise DataError("strip: expected at least one image, found none")
    tile = MAX_TILE
    content = _png(_draw(rows, tile))
    while len(content) >= MAX_BYTES and tile > 1:
        tile = tile * 7 // 8
        content = _png(_draw(rows, tile))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _draw(rows: list[ImageRow], tile: int) -> Image.Image:
    columns = used_columns(rows)
    lines = [draw_row(row, columns, tile) for row in rows]
    font = ImageFont.load_default(FONT_SIZE)
    headings = max(round(font.getlength(column.heading)) for column in columns)
    # Portraits are narrower than landscapes: columns are as wide as the widest panel or heading.
    width = max(headings, *(panel.shape[1] for line in lines for panel in line if panel is not None))
    heights = [panel.shape[0] for panel, *_ in lines if panel is not None]  # the photo is always there and sets the size of its line
    size = (len(columns) * (width + GAP) + GAP, HEADING_HEIGHT + sum(heights) + GAP * len(heights))
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for index, column in enumerate(columns):
        pen.text((GAP + index * (width + GAP) + width / 2, HEADING_HEIGHT / 2), column.heading, TEXT, font, anchor="mm")
    top = HEADING_HEIGHT
    for line, height in zip(lines, heights, strict=True):
        for index, panel in enumerate(line):
            if panel is not None:
                left = GAP + index * (width + GAP) + (width - panel.shape[1]) // 2
                picture.paste(Image.fromarray(np.ascontiguousarray(panel)), (left, top))
        top += height + GAP
    return picture


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    palette = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    # Dithered: without it the soft slopes of a CAM turn into rings.
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
