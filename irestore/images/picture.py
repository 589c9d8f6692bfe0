"""A picture in memory: pixels for the network, and everything of the file that must come back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (H, W) or (H, W, 3), 0..1


@dataclass(frozen=True)
class JpegTables:
    """How strongly a JPEG was compressed: what is needed to compress its result alike."""

    quality: int  # on the scale of libjpeg, estimated; 11..20 for all that is below
    tables: tuple[tuple[int, ...], ...]  # quantisation tables of 64 numbers, in zigzag order as Pillow gives them
    subsampling: int  # 0: 4:4:4, 1: 4:2:2, 2: 4:2:0, -1: something else


@dataclass(frozen=True)
class Metadata:
    """What a file says besides its pixels. Byte strings are as the file has them, uninterpreted."""

    icc: bytes | None = None
    exif: bytes | None = None  # starts at the TIFF header "II" or "MM", without "Exif\\0\\0"
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None  # (x, y) in dots per inch
    text: Mapping[str, str] = field(default_factory=dict)  # PNG's text chunks
    png_colour: tuple[tuple[bytes, bytes], ...] = ()  # PNG's cICP, gAMA, cHRM, sRGB chunks: (name, content)
    comment: bytes | None = None
    jpeg: JpegTables | None = None
    lossless: bool | None = None  # a WebP's own choice
    duration: float | None = None  # milliseconds that this frame of an animation is shown
    loop: int | None = None  # times an animation is played, 0 for ever; None: not an animation


@dataclass(frozen=True)
class Info:
    """What the header of a picture file says, before any pixel is decoded."""

    format: str  # a key of FORMATS, or the lower-case name of another format that can be read: "bmp", "heif", ...
    width: int  # pixels, upright
    height: int
    frames: int
    depth: int  # 8 or 16 bits a sample
    has_alpha: bool
    provenance: str | None = None  # the tag that irestore left in its own results
    lossy: bool = False  # whether pixels were compressed with loss, as far as the header tells

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height


@dataclass(frozen=True)
class Picture:
    """One picture: upright RGB in the file's own colour space, plus what must be carried along."""

    pixels: Plane  # float32 (H, W, 3) in 0..1; a grey picture has its one channel three times
    alpha: Plane | None  # float32 (H, W) in 0..1
    grey: bool
    depth: int  # 8 or 16 bits a sample, as in the file
    format: str  # as Info.format
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()  # what the reader could not keep, one line each, for the user

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])

    @property
    def transparent(self) -> bool:
        """Whether anything shines through: there is an alpha channel and it is not 1 everywhere."""
        return self.alpha is not None and bool((self.alpha < 1).any())

    def replaced(self, pixels: Plane, alpha: Plane | None) -> "Picture":
        """The same picture with other pixels, perhaps of another size: the printed size stays, so dpi grows with it.

        `pixels` (H, W, 3) and `alpha` (H, W) or None, float32 in 0..1.
        """
        dpi = self.metadata.dpi
        if dpi is not None:
            dpi = (dpi[0] * pixels.shape[1] / self.width, dpi[1] * pixels.shape[0] / self.height)
        return replace(self, pixels=pixels, alpha=alpha, metadata=replace(self.metadata, dpi=dpi))
