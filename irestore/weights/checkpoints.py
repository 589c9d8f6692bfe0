"""Checkpoint of traiNNer-redux, BasicSR or the official i-LN -> one safetensors file that says what it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from irestore import models
from irestore.errors import UsageError, WeightsError
from irestore.models.deduce import Deduced, deduce
from irestore.weights.files import filled, tensors
from irestore.weights.manifest import Entry
from irestore.weights.own import METADATA, from_file, metadata, readable
from irestore.weights.paths import replacing

WRAPPERS = ("params_ema", "params", "state_dict")  # the best first


def convert(source: Path, target: Path, *, config: Mapping[str, Any], task: str | None = None) -> Entry:
    """Write `target`, whole or not at all, and return the entry that loads it. `config` is what shapes cannot tell.

    Raises WeightsError where the checkpoint is none of ours, UsageError that lists what `config` still has to say.
    """
    try:
        return _convert(source, target, config, task)
    except MemoryError as error:
        raise WeightsError(f"{source}: there is not enough memory to import it") from error
    except OSError as error:
        raise WeightsError(f"{target}: cannot write: {error.strerror}") from error


def _convert(source: Path, target: Path, config: Mapping[str, Any], task: str | None) -> Entry:
    state = checkpoint(source)
    found = _described(source) or _deduced(source, state)
    unsaid = [f"--config {key}=... ({meaning})" for key, meaning in found.missing.items() if key not in config]
    if unsaid:
        raise UsageError(f"{source}: its shapes do not tell all about the network; add {' and '.join(unsaid)}")
    full = {**found.config, **config}
    model = filled(found.architecture, full, models.rename(found.dialect, state), str(source))
    task = task or ("sr" if model.scale > 1 else None)
    if task is None:
        raise UsageError(f"{source}: keeps the size of a picture; say with --task what it does")
    said = {
        "architecture": found.architecture,
        "config": {**full, "upscale": model.scale},
        "dialect": None,
        "task": task,
    }
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    with replacing(target) as file:
        file.write(save(state, metadata={METADATA: json.dumps(said)}))
    return from_file(target)


def _described(source: Path) -> Deduced | None:
    """What a safetensors file says about itself."""
    said = metadata(source) if source.suffix == ".safetensors" else {}
    return (
        Deduced(said["architecture"], said.get("dialect"), said.get("config", {}), {})
        if "architecture" in said
        else None
    )


def _deduced(source: Path, state: Mapping[str, Tensor]) -> Deduced:
    try:
        return deduce({key: tuple(value.shape) for key, value in state.items()})
    except ValueError as error:
        raise WeightsError(f"{source}: cannot import: {error}") from error


def checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.pth` file; PyTorch's restricted reader of pickles runs nothing.

    Raises WeightsError.
    """
    state: Any = tensors(path) if path.suffix == ".safetensors" else _pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no table of tensors, nor one under {', '.join(WRAPPERS)}; not imported")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _pickle(path: Path) -> object:
    with readable(path):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, PermissionError, MemoryError):
            raise
        except Exception as error:  # UnpicklingError, and whatever a malformed file leads the unpickler to
            raise WeightsError(
                f"{path}: damaged, no checkpoint, or holds more than tensors and could run code; refused, unrun"
            ) from error
