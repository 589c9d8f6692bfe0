"""The header of a JPEG XL file, read before its decoder is let loose: that decodes all pixels as it opens a file.

ISO/IEC 18181-1, annex D: numbers of varying width, lowest bit first. 18181-2: the boxes of a container.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from irestore.errors import ReadError

STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")  # of a codestream, of a container

_HEADER_BYTES = 64  # of a codestream
_MOST_BOXES = 10_000
_MOST_EXIF_BYTES = 2**24
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
# Choices of (added, bits).
_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))
_PREVIEW_SIDES, _PREVIEW_EIGHTHS = ((1, 6), (65, 8), (321, 10), (1345, 12)), ((16, 0), (32, 0), (1, 5), (33, 9))
_DEPTHS, _FLOATING_DEPTHS = ((8, 0), (10, 0), (12, 0), (1, 6)), ((32, 0), (16, 0), (24, 0), (1, 6))
_EXTRA_CHANNELS, _COLOURS = ((0, 0), (1, 0), (2, 4), (1, 12)), ((0, 0), (1, 0), (2, 4), (18, 6))
_GREY = 1


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    width: int  # pixels, upright
    height: int
    animated: bool
    depth: int = 8  # bits a sample; not known for an animation
    has_alpha: bool = False  # or another channel besides colour
    grey: bool = False  # not known where there are further channels
    exif: bytes | None = None


def header(stream: BinaryIO) -> Header:
    """The header of a file; raises ReadError where it has none. Decodes nothing."""
    codestream, exif = _pieces(stream)
    if not codestream.startswith(STARTS[0]):
        raise ReadError("a JPEG XL without a picture; the file is damaged")
    try:
        return _parsed(_Bits(codestream[2:]), exif)
    except IndexError as error:
        raise ReadError("a JPEG XL whose header ends too early; the file is damaged or incomplete") from error


def _pieces(stream: BinaryIO) -> tuple[bytes, bytes | None]:
    """The start of the codestream, and the EXIF block unless it is compressed."""
    stream.seek(0)
    start = stream.read(_HEADER_BYTES)
    if not start.startswith(STARTS[1]):
        return start, None
    codestream, exif = b"", None
    for name, length in _boxes(stream):
        if name in (b"jxlc", b"jxlp") and len(codestream) < _HEADER_BYTES:
            content = stream.read(min(length, _HEADER_BYTES + 4))
            codestream += content[4:] if name == b"jxlp" else content  # a part has a number first
        elif name == b"Exif" and exif is None:
            content = stream.read(min(length, _MOST_EXIF_BYTES))
            plain = content.startswith((b"II*\0", b"MM\0*"))  # without the offset that the standard asks for
            exif = content if plain else content[4 + int.from_bytes(content[:4]) :]
    return codestream, exif


def _boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of the content of each box, the stream at the start of the content."""
    end = stream.seek(0, 2)
    at = 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        head = stream.read(8)
        length, inside = int.from_bytes(head[:4]), at + 8
        if length == 1:
            length, inside = int.from_bytes(stream.read(8)), at + 16
        after = at + length if length else end  # 0: to the end of the file
        if len(head) < 8 or after < inside:
            return
        yield head[4:], min(after, end) - inside
        at = after
    raise ReadError(f"a JPEG XL of more than {_MOST_BOXES} boxes; the file is damaged")


class _Bits:
    """Raises IndexError at the end."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, count: int) -> int:
        value = 0
        for i in range(count):
            byte, bit = divmod(self._at, 8)
            value |= (self._content[byte] >> bit & 1) << i
            self._at += 1
        return value

    def choice(self, choices: tuple[tuple[int, int], ...]) -> int:
        added, count = choices[self.take(2)]
        return added + self.take(count)

    def size(self, sides: tuple[tuple[int, int], ...], eighth: Callable[[], int]) -> tuple[int, int]:
        """(width, height)."""
        in_eighths = self.take(1)

        def side() -> int:
            return 8 * eighth() if in_eighths else self.choice(sides)

        height, ratio = side(), self.take(3)
        if ratio:
            across, down = _RATIOS[ratio - 1]
            return height * across // down, height
        return side(), height


def _parsed(bits: _Bits, exif: bytes | None) -> Header:
    def picture_size() -> tuple[int, int]:
        return bits.size(_SIDES, lambda: 1 + bits.take(5))

    width, height = picture_size()
    if bits.take(1):  # all else is as usual
        return Header(width, height, animated=False, exif=exif)
    if bits.take(1):  # further fields
        if bits.take(3) >= 4:  # orientation, less one, which the decoder applies
            width, height = height, width
        if bits.take(1):
            picture_size()
        if bits.take(1):
            bits.size(_PREVIEW_SIDES, lambda: bits.choice(_PREVIEW_EIGHTHS))
        if bits.take(1):
            return Header(width, height, animated=True, exif=exif)
    floating = bits.take(1)
    depth = bits.choice(_FLOATING_DEPTHS if floating else _DEPTHS)
    bits.take(4 * floating + 1)  # of an exponent; whether 16 bits suffice for computing
    if bits.choice(_EXTRA_CHANNELS):
        return Header(width, height, animated=False, depth=depth, has_alpha=True, exif=exif)
    bits.take(1)  # whether it is coded as XYB
    usual, _ = bits.take(1), bits.take(1)  # sRGB; whether there is an ICC profile
    grey = not usual and bits.choice(_COLOURS) == _GREY
    return Header(width, height, animated=False, depth=depth, grey=grey, exif=exif)
