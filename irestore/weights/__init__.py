"""Weights that can be trusted: manifest entry -> verified local file -> loaded model.

    candidates(task, scale, name) -> entries     what may be used, best first
    locate(entry) -> path                        bundled, model folder, Hub cache or download; sha256 verified
    obtain(candidates) -> Found                  the same, falling back to a bundled model where there is no connection
    read(entry, path) -> model                   strict, float32, eval mode (`load`: locate and read)

Importing this imports neither torch nor huggingface_hub: what needs torch is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from irestore.weights.local import Found, intact, is_imported, locate, obtain, present, remove, state, will_download
from irestore.weights.manifest import CHOICES, Entry, bundled_first, candidates, entries, find
from irestore.weights.own import describe_own, from_file, from_hub, is_own, parse_config

if TYPE_CHECKING:
    from irestore.weights.files import load, read
    from irestore.weights.importing import check_name, convert, install

__all__ = [  # noqa: RUF022 grouped by what they are for
    "Entry", "entries", "find", "candidates", "CHOICES", "bundled_first",
    "is_own", "describe_own", "from_file", "from_hub", "parse_config",
    "locate", "obtain", "Found", "present", "state", "will_download", "intact", "remove",
    "load", "read",
    "convert", "install", "check_name", "is_imported",
]  # fmt: skip
_LATE = {"load": "files", "read": "files", "convert": "importing", "install": "importing", "check_name": "importing"}


def __getattr__(name: str) -> object:
    if name in _LATE:
        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
