"""File <-> picture, with nothing lost on the way. The only part of irestore that imports Pillow.

Names are imported when they are used, so that `--help` and completion wait for neither NumPy nor Pillow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .alpha import fill_transparent, resize_alpha
    from .formats import FORMATS, check_target, default_format, format_of, target_format
    from .metadata import provenance
    from .options import MAX_PIXELS, LoadOptions, SaveOptions
    from .picture import Info, JpegTables, Metadata, Picture
    from .read import load, load_frames, probe, read_provenance
    from .write import encode, save, save_frames

_HOMES = {
    "alpha": ("fill_transparent", "resize_alpha"),
    "formats": ("FORMATS", "check_target", "default_format", "format_of", "target_format"),
    "metadata": ("provenance",),
    "options": ("MAX_PIXELS", "LoadOptions", "SaveOptions"),
    "picture": ("Info", "JpegTables", "Metadata", "Picture"),
    "read": ("load", "load_frames", "probe", "read_provenance"),
    "write": ("encode", "save", "save_frames"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 grouped by what they are for
    "load", "load_frames", "probe", "LoadOptions", "MAX_PIXELS",
    "save", "save_frames", "encode", "SaveOptions",
    "FORMATS", "format_of", "default_format", "target_format", "check_target",
    "Picture", "Metadata", "JpegTables", "Info",
    "fill_transparent", "resize_alpha",
    "provenance", "read_provenance",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
