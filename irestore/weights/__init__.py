"""Weights that can be trusted: manifest entry -> verified local file -> loaded model.

    candidates(task, scale, name) -> entries     what may be used, best first (`choose`: the best)
    locate(entry) -> path                        bundled, model folder, Hub cache or download; sha256 verified
    obtain(candidates) -> Found                  the same, falling back to a bundled model where there is no connection
    read(entry, path) -> model                   strict, float32, eval mode (`load`: locate and read)

Importing this imports neither torch nor huggingface_hub.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from irestore.tasks import TASKS
from irestore.weights.checkpoints import convert, parse_config
from irestore.weights.files import from_file, from_hub, read
from irestore.weights.hub import remove
from irestore.weights.manifest import Entry, candidates, choose, entries, find
from irestore.weights.sources import Found, intact, locate, obtain, present, state

if TYPE_CHECKING:
    import torch

    from irestore.models.network import Network

__all__ = [
    "TASKS",
    "Entry",
    "Found",
    "candidates",
    "choose",
    "convert",
    "entries",
    "find",
    "from_file",
    "from_hub",
    "intact",
    "load",
    "locate",
    "obtain",
    "parse_config",
    "present",
    "read",
    "remove",
    "state",
]


def load(
    entry: Entry, *, offline: bool = False, device: "torch.device | str" = "cpu", model_dir: Path | str | None = None
) -> "Network":
    """The model in eval mode, float32, on `device`. Raises DownloadError, WeightsError or UsageError."""
    return read(entry, locate(entry, offline=offline, model_dir=model_dir), device)
