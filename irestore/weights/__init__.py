"""Weights that can be trusted: manifest entry -> verified local file -> loaded model.

    candidates(task, scale, name) -> entries     what may be used, best first
    locate(entry) -> path                        bundled, model folder, Hub cache or download; sha256 verified
    obtain(candidates) -> Found                  the same, falling back to a bundled model where there is no connection
    read(entry, path) -> model                   strict, float32, eval mode (`load`: locate and read)

Importing this imports neither torch nor huggingface_hub: `read` and `convert` bring torch when they are used.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from irestore.weights.local import Found, intact, locate, obtain, present, remove, state, will_download
from irestore.weights.manifest import CHOICES, Entry, bundled_first, candidates, entries, find
from irestore.weights.own import describe_own, from_file, from_hub, is_own, parse_config

if TYPE_CHECKING:
    import torch

    from irestore.models.network import Network
    from irestore.weights.files import convert, install, read

__all__ = [
    "CHOICES",
    "Entry",
    "Found",
    "bundled_first",
    "candidates",
    "convert",
    "describe_own",
    "entries",
    "find",
    "from_file",
    "from_hub",
    "install",
    "intact",
    "is_own",
    "load",
    "locate",
    "obtain",
    "parse_config",
    "present",
    "read",
    "remove",
    "state",
    "will_download",
]


def __getattr__(name: str) -> object:
    if name in ("read", "convert", "install"):
        return getattr(import_module("irestore.weights.files"), name)
    raise AttributeError(f"module 'irestore.weights' has no attribute {name!r}")


def load(
    entry: Entry, *, offline: bool = False, device: "torch.device | str" = "cpu", model_dir: Path | str | None = None
) -> "Network":
    """The model in eval mode, float32, on `device`. Raises DownloadError, WeightsError or UsageError."""
    path = locate(entry, offline=offline, model_dir=model_dir)
    model: Network = import_module("irestore.weights.files").read(entry, path, device)
    return model
