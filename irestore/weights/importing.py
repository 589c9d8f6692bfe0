"""From a checkpoint of another program to a file that says what it is, and to a model that has a name.

This imports torch; `irestore.weights` brings it late.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from irestore import models
from irestore.errors import IncompleteError, ManifestError, UsageError, WeightsError, one_line
from irestore.models.deduce import Deduced, deduce
from irestore.tasks import TASKS
from irestore.weights.files import filled, unpacked
from irestore.weights.local import is_imported
from irestore.weights.manifest import IMPORTED, NAME, NAME_RULE, Entry, parsed
from irestore.weights.own import METADATA, metadata, readable
from irestore.weights.paths import own_folder
from irestore.whole_file import whole_file

WRAPPERS = ("params_ema", "params", "state_dict")  # of a checkpoint's tensors, the best first


def convert(source: Path, target: Path, *, config: Mapping[str, Any], task: str | None = None) -> Entry:
    """Write `target`, whole or not at all, from a checkpoint of traiNNer-redux, BasicSR or the official i-LN.

    Returns the entry that loads it, described where shapes have told a published network. `config` is what shapes
    cannot tell. Raises WeightsError for another checkpoint, IncompleteError that lists what `config` still has to say,
    UsageError for a task or a config that cannot be meant.
    """
    content, entry = _converted(source, config, task)
    _write(target, content)
    return replace(entry, name=target.stem, file=target.name, folder=target.parent)


def install(source: Path, name: str, *, config: Mapping[str, Any], task: str | None = None) -> Entry:
    """As `convert`, to a file in the user's config folder with a manifest beside it, so that the model has a name.

    What `check_name` allows is replaced. Nothing is written unless the manifest can be read again.
    """
    content, entry = _converted(source, config, task)
    target = own_folder("config") / IMPORTED / f"{name}.safetensors"
    said = {"name": name, "task": entry.task, "scale": entry.scale, "architecture": entry.architecture}
    said |= {"licence": "unknown", "file": target.name}
    said |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    said |= {"description": entry.description} if entry.description else {}
    lines = [*_toml(said | {"source": one_line(source.absolute())}), "[model.config]", *_toml(entry.config)]
    text = "\n".join(["[[model]]", *lines, ""])
    manifest = target.with_suffix(".toml")
    try:
        told = text.encode()
        (entry,) = parsed(text, manifest)
    except (ManifestError, UnicodeEncodeError) as error:
        raise UsageError(
            f"--config: a manifest cannot hold its values; write numbers, words or lists: {error}"
        ) from error
    _write(target, content)
    _write(manifest, told)
    return entry


def check_name(name: str, known: Iterable[Entry], *, overwrite: bool) -> None:
    """Check whether an imported model can have this name. Raises UsageError; `overwrite` allows that of another one."""
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name}: must be {NAME_RULE}")
    taken = next((entry for entry in known if entry.name == name), None)
    if taken is not None and not (overwrite and is_imported(taken)):
        remedy = "--overwrite replaces it, " if is_imported(taken) else ""
        raise UsageError(f"{name}: there is such a model already; {remedy}--name gives this one another name")


def _converted(source: Path, config: Mapping[str, Any], task: str | None) -> tuple[bytes, Entry]:
    """The file that says what it is, and its entry, which has no place yet. Raises as `convert`."""
    try:
        state = checkpoint(source)
        own = metadata(source) if source.suffix == ".safetensors" else {}
        found = _network(source, state, own)
        _ask_for_missing(source, found, config)
        full = {**found.config, **config}
        state = models.rename(found.dialect, unpacked(state, str(source)))
        model = filled(found.architecture, full, state, str(source))
        full["upscale"] = model.scale
        task = _task(source, model.scale, task or own.get("task"))
        said = {"architecture": found.architecture, "config": full, "dialect": None, "task": task}
        entry = Entry(
            name=source.stem, file=source.name, description=_told(found, config), task=task, scale=model.scale,
            architecture=found.architecture, config=full,
        )  # fmt: skip
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        return save(state, metadata={METADATA: _json(said)}), entry
    except MemoryError as error:
        raise WeightsError(f"{source}: there is not enough memory to import it") from error


def _ask_for_missing(source: Path, found: Deduced, config: Mapping[str, Any]) -> None:
    """Raises IncompleteError where shapes do not tell all about the network, and `config` neither."""
    unsaid = {key: meaning for key, meaning in found.missing.items() if key not in config}
    if unsaid:
        told = ", ".join(f"{key} is the {meaning}" for key, meaning in unsaid.items())
        values = {key: meaning.rpartition(": ")[2].rstrip(")") for key, meaning in unsaid.items()}
        options = [part for key, value in values.items() for part in ("--config", f"{key}={value}")]
        raise IncompleteError(
            f"{source}: its shapes do not tell all about the network: {told}. With published values", options
        )


def _task(source: Path, scale: int, said: str | None) -> str:
    """What the network does: `said`, or sr where the picture grows. Raises IncompleteError, UsageError."""
    task = said or ("sr" if scale > 1 else None)
    if task is None:
        raise IncompleteError(f"{source}: keeps the size of a picture; say what it does, as in", ["--task", "denoise"])
    if scale != 1 and not TASKS[task].enlarges:
        raise UsageError(f"{source}: enlarges pictures {scale} times, and {task} keeps their size; give --task sr")
    return task


def _json(said: Mapping[str, Any]) -> str:
    """As JSON. Raises UsageError for numbers that are none, and for dates."""
    try:
        return json.dumps(said, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--config: {error}; write numbers, words or lists") from error


def _write(target: Path, content: bytes) -> None:
    try:
        with whole_file(target, make_folder=True) as file:
            file.write(content)
    except OSError as error:
        raise WeightsError(f"{target}: cannot write: {error.strerror}") from error


def _told(found: Deduced, config: Mapping[str, Any]) -> str:
    """Which published network it is, if its shapes have told, and what has been taken for that; for people."""
    taken = [f"{key} = {json.dumps(value)}" for key, value in found.taken.items() if key not in config]
    told = f"{found.published} by its shapes" if found.published else ""
    return f"{told}, hence {', '.join(taken)}" if taken else told


def _toml(values: Mapping[str, Any]) -> list[str]:
    """Lines of TOML, which writes numbers, lists, true and strings as JSON does, and has no null."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]


def _network(source: Path, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> Deduced:
    """Which network it is: what a safetensors file says of itself, else what shapes tell."""
    if "architecture" in said:
        return Deduced(said["architecture"], said.get("dialect"), said.get("config", {}), {})
    try:
        return deduce({key: tuple(value.shape) for key, value in state.items()})
    except ValueError as error:
        raise WeightsError(f"{source}: cannot import: {error}") from error


def checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.pth` file; PyTorch's restricted reader of pickles runs nothing.

    Raises WeightsError.
    """
    with readable(path):
        try:
            safe = path.suffix == ".safetensors"
            state: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, PermissionError, MemoryError, SafetensorError):
            raise
        except Exception as error:  # UnpicklingError, and whatever a malformed file leads the unpickler to
            raise WeightsError(
                f"{path}: damaged, no checkpoint, or holds more than tensors and could run code; refused, unrun"
            ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no table of tensors, nor one under {', '.join(WRAPPERS)}; not imported")
    return {str(key).removeprefix("module."): value for key, value in state.items()}
