"""What a caller may choose when pictures are read and written. Plain data: imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

MAX_PIXELS = 200_000_000
"""The most pixels that are decoded unless asked: a 200-megapixel photograph passes, a decompression bomb does not."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a picture is read."""

    max_pixels: int = MAX_PIXELS
    """Largest width x height x frames that is decoded; more is a ReadError that names this limit."""

    frames: Literal["first", "all", "error"] = "error"
    """A file of several frames or pages: take the first, take all (only `load_frames` can), or refuse it."""


@dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """How a picture is written."""

    format: str = "auto"
    """A key of `FORMATS` (png, jpg, webp, tiff, avif, jxl, gif), or "auto": by the suffix of the target."""

    depth: Literal["auto", 8, 16] = "auto"
    """Bits a sample; "auto" keeps the picture's, as far as the format can."""

    quality: int | None = None
    """1..100 for the lossy formats; None keeps a JPEG's own, else the format's default. PNG, TIFF, GIF ignore it."""

    lossless: bool | None = None
    """True asks for no loss (WebP, JPEG XL; PNG and TIFF never lose); None keeps what a WebP source was."""

    background: str | None = None
    """The colour ("white", "#204060", "rgb(32, 64, 96)") put behind transparency, which then is gone. None keeps it."""

    metadata: Literal["keep", "strip"] = "keep"
    """"strip" drops EXIF, XMP, IPTC, texts and resolution; the colour profile stays, without it colours are wrong."""

    overwrite: bool = True
    """False leaves a file that is there as it is, and is a WriteError."""

    provenance: str | None = None
    """Text of `provenance()`, written whatever `metadata` says; None writes none and drops one that the source had."""


LOAD = LoadOptions()
LOAD_ALL = LoadOptions(frames="all")
SAVE = SaveOptions()
