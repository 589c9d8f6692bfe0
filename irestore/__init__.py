"""Restore photographs with Global-LN (i-LN) networks: exact by tiles, in bounded memory.

    import irestore
    large = irestore.restore(image, "sr", 4)          # a Pillow image, a numpy array or a torch tensor
    model = irestore.load("heart-x4-otf-v2")          # once, for many pictures
    large = irestore.restore(image, model=model)

Importing this imports nothing heavy; torch comes with the first use.
"""

from typing import TYPE_CHECKING

from irestore.errors import IrestoreError

if TYPE_CHECKING:
    from irestore.api import load, restore
    from irestore.planning import Settings

__version__ = "0.1.0"

__all__ = ["IrestoreError", "Settings", "__version__", "load", "restore"]

_HOMES = {"load": "irestore.api", "restore": "irestore.api", "Settings": "irestore.planning"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'irestore' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
