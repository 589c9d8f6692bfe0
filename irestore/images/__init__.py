"""File <-> picture, with nothing lost on the way. The only part of irestore that imports Pillow.

What needs NumPy or Pillow is imported when it is used, so that `--help` and completion wait for neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from irestore.images.exif import provenance
from irestore.images.formats import (
    FORMATS,
    MAX_PIXELS,
    LoadOptions,
    SaveOptions,
    check_target,
    default_format,
    format_of,
    target_format,
)

if TYPE_CHECKING:
    from irestore.images.colour import fill_transparent
    from irestore.images.picture import Info, JpegTables, Metadata, Picture
    from irestore.images.read import load, load_frames, probe
    from irestore.images.resize import reduced, resize_alpha
    from irestore.images.write import encode, save, save_frames, save_to

__all__ = [  # noqa: RUF022 grouped by what they are for
    "load", "load_frames", "probe", "LoadOptions", "MAX_PIXELS",
    "save", "save_frames", "save_to", "encode", "SaveOptions",
    "FORMATS", "format_of", "default_format", "target_format", "check_target",
    "Picture", "Metadata", "JpegTables", "Info",
    "fill_transparent", "resize_alpha", "reduced", "provenance",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("picture", "colour", "resize", "read", "write"):
            home = import_module(f"{__name__}.{module}")
            if hasattr(home, name):
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
