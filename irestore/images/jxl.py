"""The start of a JPEG XL file, read before its decoder is let loose: it decodes all pixels as soon as it opens a file.

ISO/IEC 18181-1, annex D: numbers of varying width, lowest bit first.
"""

from dataclasses import dataclass
from typing import BinaryIO

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"
_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height; 0 stands for its own
_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))  # choices of (added, bits)
_DEPTHS = ((8, 0), (10, 0), (12, 0), (1, 6))


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    width: int
    height: int
    animated: bool
    depth: int  # bits a sample


def header(start: bytes) -> Header | None:
    """The header in the first bytes of a file; None where they are not those of a JPEG XL picture."""
    codestream = _codestream(start)
    if not codestream.startswith(_CODESTREAM):
        return None
    bits = _Bits(codestream[len(_CODESTREAM) :])
    try:
        height, width = bits.size()
        animated, depth = _metadata(bits)
    except IndexError:
        return None
    return Header(width, height, animated, depth)


def _codestream(start: bytes) -> bytes:
    """The first bytes of the codestream: the file itself, or in a container one box or the sum of several."""
    if not start.startswith(_CONTAINER):
        return start
    found, at = b"", 0
    while at + 8 <= len(start):
        length, name = int.from_bytes(start[at : at + 4]), start[at + 4 : at + 8]
        end = at + length if length else len(start)
        if name in (b"jxlc", b"jxlp"):
            found += start[at + (8 if name == b"jxlc" else 12) : end]
        if length < 8:  # the last box, or one too long to end within these bytes
            break
        at = end
    return found


def exif(stream: BinaryIO) -> bytes | None:
    """The EXIF block of a file, found without decoding; None where it has none, or it is compressed."""
    stream.seek(0)
    if stream.read(len(_CONTAINER)) != _CONTAINER:
        return None
    stream.seek(0)
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4])
        if head[4:] == b"Exif":
            content = stream.read(length - 8 if length else -1)
            plain = content.startswith((b"II*\0", b"MM\0*"))  # without the offset that the standard asks for
            return content if plain else content[4 + int.from_bytes(content[:4]) :]
        if length < 8:
            return None
        stream.seek(length - 8, 1)
    return None


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

    def size(self) -> tuple[int, int]:
        """(height, width)."""
        small = self.take(1)
        height = 8 * (1 + self.take(5)) if small else self.choice(_SIDES)
        ratio = self.take(3)
        if ratio:
            across, down = _RATIOS[ratio]
            return height, height * across // down
        return height, 8 * (1 + self.take(5)) if small else self.choice(_SIDES)


def _metadata(bits: _Bits) -> tuple[bool, int]:
    """Whether it is an animation, and bits a sample; (False, 8) where a preview stands in between."""
    if bits.take(1):
        return False, 8
    animated = False
    if bits.take(1):
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(1):
            bits.size()
        if bits.take(1):
            return False, 8
        animated = bool(bits.take(1))
        if animated:
            return True, 8
    floating = bits.take(1)
    return animated, 32 if floating else bits.choice(_DEPTHS)
