"""A contact sheet: crops of pictures of one view, a column for each picture, a row for each place."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from irestore.images.picture import Picture
from irestore.images.samples import PillowImage, from_pillow

ROWS = 4
CELL = 256  # pixels of the sheet
_GAP, _LINE = 12, 20
_PAPER, _INK, _FAINT = (24, 25, 28), (236, 236, 239), (160, 163, 171)
_MARK = (255, 210, 60)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[int, int, int, int]  # left, top, right, bottom


def contact_sheet(names: Sequence[str], pictures: Sequence[NDArray[np.uint8]]) -> Picture:
    """The sheet for pictures (H, W, 3) of one view, of any sizes; the first is what the others are compared with.

    Crops are taken where the detail differs most, from the size of the largest, to which the others are enlarged by
    bicubic. Small ones are shown at 2:1 or 4:1 with sharp pixels. Names are captions; on the left is the whole view.
    """
    images = [Image.fromarray(each) for each in pictures]
    size = max((image.size for image in images), key=lambda size: size[0] * size[1])
    side = next((side for side in (CELL, CELL // 2) if 3 * side <= min(size)), min(CELL // 4, *size))
    side -= side % max(1, side // 4)  # whole blocks of `places`
    boxes = places(images, size, side)
    across = CELL // side * side
    whole = next(image for image in images if image.size == size).copy()
    whole.thumbnail((CELL, CELL))
    head, left = 2 * _LINE + _GAP, max(whole.width, CELL // 2) + 2 * _GAP
    high = max(whole.height + _GAP, len(boxes) * (across + _GAP))
    sheet = Image.new("RGB", (left + len(images) * (across + _GAP), head + high), _PAPER)
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    sheet.paste(whole, (_GAP, head))
    for column, (name, image) in enumerate(zip(names, images, strict=True)):
        x = left + column * (across + _GAP)
        draw.text((x, _GAP), _fitted(name, bold, across), _INK, bold)
        draw.text((x, _GAP + _LINE), f"{image.width} x {image.height}", _FAINT, plain)
        for row, box in enumerate(boxes):
            crop = _crop(image, size, box).resize((across, across), Image.Resampling.NEAREST)
            sheet.paste(crop, (x, head + row * (across + _GAP)))
    draw.text((_GAP, _GAP), f"{size[0]} x {size[1]}", _INK, bold)
    draw.text((_GAP, _GAP + _LINE), f"crops at {across // side}:1", _FAINT, plain)
    scale = whole.width / size[0]
    for row, box in enumerate(boxes):
        outline = [_GAP + box[0] * scale, head + box[1] * scale, _GAP + box[2] * scale, head + box[3] * scale]
        draw.rectangle(outline, outline=_MARK, width=2)
        for corner in (outline, (left, head + row * (across + _GAP))):
            draw.text((corner[0] + 6, corner[1] + 4), str(row + 1), _MARK, plain, stroke_width=2, stroke_fill=_PAPER)
    return from_pillow(sheet)


def places(images: Sequence[PillowImage], size: tuple[int, int], side: int) -> list[Box]:
    """Up to `ROWS` squares of `side` pixels, apart from each other, in which the others differ most from the first.

    Measured in blocks of a quarter of the side, by the contrast of the difference times that of the other: a change of
    brightness alone does not count, and noise over an edge counts more than noise over a wall.
    """
    block = max(1, side // 4)
    rows, columns = size[1] // block, size[0] // block
    planes = [np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC)) for image in images]
    detail = np.zeros((rows, columns))
    for row in range(rows):
        band = slice(row * block, (row + 1) * block), slice(columns * block)
        first = planes[0][band].astype(np.float32)
        for plane in planes[1:]:
            for_blocks = (each.reshape(block, columns, block) for each in (plane[band] - first, plane[band]))
            detail[row] += np.prod([each.std(axis=(0, 2)) for each in for_blocks], axis=0)
    across = side // block
    sums = np.pad(detail, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    score = sums[across:, across:] - sums[:-across, across:] - sums[across:, :-across] + sums[:-across, :-across]
    found: list[Box] = []
    while len(found) < ROWS and score.max() >= 0:
        y, x = np.unravel_index(score.argmax(), score.shape)
        found.append((int(x) * block, int(y) * block, int(x) * block + side, int(y) * block + side))
        score[max(0, y - across) : y + across + 1, max(0, x - across) : x + across + 1] = -1
    return found


def _crop(image: PillowImage, size: tuple[int, int], box: Box) -> PillowImage:
    """The square of the view, as this picture has it, enlarged to the pixels of `size`."""
    x, y = image.width / size[0], image.height / size[1]
    return image.resize(
        (box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC, (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    )


def _fitted(text: str, font: Font, width: int) -> str:
    """The text, shortened in its middle where it is wider."""
    shown = text
    while len(text) > 2 and font.getlength(shown) > width:
        text = text[: (len(text) - 1) // 2] + text[(len(text) + 1) // 2 :]
        shown = f"{text[: len(text) // 2]}…{text[len(text) // 2 :]}"
    return shown
