"""Checkpoint of traiNNer-redux, BasicSR or the official i-LN -> one safetensors file that says what it is."""

import json
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irestore.errors import UsageError, WeightsError
from irestore.weights.files import METADATA, fill, tensors
from irestore.weights.manifest import Entry

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ("params_ema", "params", "state_dict")  # the best first


def convert(source: Path, target: Path, *, config: Mapping[str, Any], task: str | None = None) -> Entry:
    """Writes `target`, whole or not at all, and returns the entry that loads it. `config` is what shapes cannot tell.

    Raises WeightsError where the checkpoint is none of ours, UsageError that lists what `config` still has to say.
    """
    from irestore import models
    from irestore.models.deduce import deduce

    state = checkpoint(source)
    try:
        found = deduce({key: tuple(value.shape) for key, value in state.items()})
    except ValueError as error:
        raise WeightsError(f"{source}: cannot import: {error}") from error
    unsaid = [f"--config {key}=... ({meaning})" for key, meaning in found.missing.items() if key not in config]
    if unsaid:
        raise UsageError(f"{source}: its shapes do not tell all about the network; add {' and '.join(unsaid)}")
    full = {**found.config, **config}
    model = models.build(found.architecture, full)
    task = task or ("sr" if model.scale > 1 else None)
    if task is None:
        raise UsageError(f"{source}: keeps the size of a picture; say with --task what it does")
    fill(model, models.rename(found.dialect, state), str(source))
    said = {"architecture": found.architecture, "config": full, "dialect": None, "task": task}
    _write(model.state_dict(), said, target)
    return Entry(
        name=target.stem, task=task, scale=model.scale, architecture=found.architecture, config=full,
        file=target.name, folder=target.parent, sha256=None, licence="",
    )  # fmt: skip


def checkpoint(path: Path) -> "dict[str, Tensor]":
    """The tensors of a `.safetensors` or `.pth` file; PyTorch's restricted reader of pickles runs nothing.

    Raises WeightsError.
    """
    state: Any = tensors(path) if path.suffix == ".safetensors" else _pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    from torch import Tensor

    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no table of tensors, nor one under {', '.join(WRAPPERS)}; not imported")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def parse_config(items: Iterable[str]) -> dict[str, Any]:
    """The config that `key=value` items and `.toml` or `.json` files give, later ones over earlier. Raises UsageError.

    Values are JSON (`8`, `0.01`, `true`, `[6, 6]`), or words.
    """
    config: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            config |= _config_file(Path(item))
            continue
        try:
            config[key.strip()] = json.loads(value)
        except ValueError:
            config[key.strip()] = value
        except RecursionError as error:
            raise UsageError(f"--config {key.strip()}: its value is nested too deeply") from error
    return config


def _config_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except RecursionError as error:
        raise UsageError(f"--config {path}: its values are nested too deeply") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"--config {path}: neither key=value nor a readable .toml or .json file: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"--config {path}: holds no table of keys and values")
    return table


def _pickle(path: Path) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise WeightsError(f"{path}: cannot read the checkpoint: {error.strerror}") from error
    except Exception as error:  # UnpicklingError, and whatever a malformed file leads the unpickler to
        raise WeightsError(
            f"{path}: damaged, no checkpoint, or holds more than tensors and could run code; refused, unrun"
        ) from error


def _write(state: "dict[str, Tensor]", said: dict[str, Any], target: Path) -> None:
    from safetensors.torch import save

    data = save({key: value.contiguous() for key, value in state.items()}, metadata={METADATA: json.dumps(said)})
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            partial = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot write: {error.strerror}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
