"""Files -> tensors -> a network, strictly: none lacks or is left over, shapes and types fit, and nothing is NaN.

Also from a checkpoint to a file that says what it is. This imports torch; `irestore.weights` brings it late.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from irestore import models
from irestore.errors import IncompleteError, UsageError, WeightsError, one_line
from irestore.models.deduce import Deduced, deduce
from irestore.models.network import Network
from irestore.weights.local import is_imported
from irestore.weights.manifest import IMPORTED, NAME, NAME_RULE, Entry, entries, find
from irestore.weights.manifest import read as read_manifest
from irestore.weights.own import METADATA, describe, from_file, metadata, readable
from irestore.weights.paths import own_folder, replacing, sha256

SCALE = ".scale"  # after the name of a tensor of 8 bits: what its rows are multiplied by
WRAPPERS = ("params_ema", "params", "state_dict")  # of a checkpoint's tensors, the best first


def read(entry: Entry, path: Path, device: torch.device | str = "cpu") -> Network:
    """The model in eval mode, float32, on `device`, from the entry's verified file. Raises WeightsError."""
    entry = describe(entry, path)
    with readable(path):
        state = models.rename(entry.dialect, unpacked(load_file(path), entry.name))
    model = filled(entry.architecture, entry.config, state, entry.name)
    if model.scale != entry.scale:
        raise WeightsError(
            f"{entry.name}: the network enlarges {model.scale} times, not {entry.scale} as its entry says"
        )
    model.name, model.task = entry.name, entry.task
    return model.eval().requires_grad_(False).to(device)


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels (N, ...) as int8, each of the N rows with a scale of its own; the rest as float16."""
    result = {}
    for name, tensor in state.items():
        result[name] = tensor.half() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and tensor.ndim > 1:
            scale = (tensor.flatten(1).abs().amax(1) / 127).half().clamp_min(2**-24)  # (N,), not zero
            result[name] = (tensor / _by_row(scale, tensor)).round().clamp(-127, 127).to(torch.int8)
            result[name + SCALE] = scale
    return result


def unpacked(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of `packed` in float32; others as they are. Raises WeightsError for a scale that fits none."""
    result = {key: tensor for key, tensor in state.items() if not key.endswith(SCALE)}
    for key in state.keys() - result.keys():
        rows, scale = result.get(key.removesuffix(SCALE)), state[key]
        if rows is None or rows.dtype != torch.int8 or rows.ndim < 2 or scale.shape != rows.shape[:1]:
            raise WeightsError(f"{name}: {key} is the scale of no tensor of 8 bits; get or convert the file again")
        result[key.removesuffix(SCALE)] = rows * _by_row(scale, rows)
    return result


def _by_row(scale: Tensor, rows: Tensor) -> Tensor:
    return scale.float().view(-1, *[1] * (rows.ndim - 1))


def filled(architecture: str, config: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> Network:
    """A network with these tensors. A large one is not built where they do not fit. Raises WeightsError."""
    model = models.build(architecture, config, check=lambda sketch: check(sketch, state, name))
    fill(model, state, name)
    return model


def check(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Raises WeightsError where names, shapes or types of the tensors are not the model's."""
    own = model.state_dict()
    lacking, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    for problem, keys in (("lacks", lacking), ("has, but the network has not,", extra)):
        if keys:
            named = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise WeightsError(f"{name}: the file {problem} {named}; is the architecture or the config another one?")
    floats = (torch.float32, torch.float16, torch.bfloat16)
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise WeightsError(
                f"{name}: {key} has the shape {tuple(tensor.shape)}, not {tuple(own[key].shape)}; "
                "is the config another one?"
            )
        if tensor.dtype not in (floats if own[key].is_floating_point() else (own[key].dtype,)):
            raise WeightsError(f"{name}: {key} is {tensor.dtype}, not {own[key].dtype}; get or convert the file again")


def fill(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Copy the tensors into the model, which needs exactly these. Raises WeightsError that names a bad one."""
    check(model, state, name)
    own = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{name}: {key} holds NaN or infinity; the file is damaged or the training failed")
        if not tensor.is_floating_point() and not torch.equal(tensor, own[key]):
            raise WeightsError(f"{name}: {key} has other values than the config implies; is the config another one?")
    model.load_state_dict(dict(state))


def convert(source: Path, target: Path, *, config: Mapping[str, Any], task: str | None = None) -> Entry:
    """Write `target`, whole or not at all, from a checkpoint of traiNNer-redux, BasicSR or the official i-LN.

    Returns the entry that loads it, described where shapes have told a published network. `config` is what shapes
    cannot tell. Raises WeightsError for another checkpoint, IncompleteError that lists what `config` still has to say.
    """
    try:
        state = checkpoint(source)
        found = _network(source, state)
        unsaid = {key: meaning for key, meaning in found.missing.items() if key not in config}
        if unsaid:
            told = ", ".join(f"{key} is the {meaning}" for key, meaning in unsaid.items())
            values = {key: meaning.rpartition(": ")[2].rstrip(")") for key, meaning in unsaid.items()}
            options = [part for key, value in values.items() for part in ("--config", f"{key}={value}")]
            raise IncompleteError(
                f"{source}: its shapes do not tell all about the network: {told}. With published values", options
            )
        full = {**found.config, **config}
        model = filled(
            found.architecture, full, models.rename(found.dialect, unpacked(state, str(source))), str(source)
        )
        own = metadata(source).get("task") if source.suffix == ".safetensors" else None
        task = task or own or ("sr" if model.scale > 1 else None)
        if task is None:
            raise IncompleteError(
                f"{source}: keeps the size of a picture; say what it does, as in", ["--task", "denoise"]
            )
        full["upscale"] = model.scale
        said = {"architecture": found.architecture, "config": full, "dialect": None, "task": task}
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        with replacing(target) as file:
            file.write(save(state, metadata={METADATA: json.dumps(said)}))
        return replace(from_file(target), description=_told(found, config))
    except MemoryError as error:
        raise WeightsError(f"{source}: there is not enough memory to import it") from error
    except OSError as error:
        raise WeightsError(f"{target}: cannot write: {error.strerror}") from error


def install(
    source: Path, name: str, *, config: Mapping[str, Any], task: str | None = None, overwrite: bool = False
) -> Entry:
    """As `convert`, to a file in the user's config folder with a manifest beside it, so that the model has a name.

    Raises UsageError for a name that makes no sense or is taken; `overwrite` replaces a model of `install`.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name}: must be {NAME_RULE}")
    taken = next((entry for entry in entries() if entry.name == name), None)
    if taken is not None and not (overwrite and is_imported(taken)):
        remedy = "--overwrite replaces it, " if is_imported(taken) else ""
        raise UsageError(f"{name}: there is such a model already; {remedy}--name gives this one another name")
    folder = own_folder("config") / IMPORTED
    target = folder / f"{name}.safetensors"
    entry = convert(source, target, config=config, task=task)
    said = {"name": name, "task": entry.task, "scale": entry.scale, "architecture": entry.architecture}
    said |= {"licence": "unknown", "file": target.name, "sha256": sha256(target), "size_bytes": target.stat().st_size}
    said |= {"description": entry.description} if entry.description else {}
    lines = [*_toml(said | {"source": one_line(source.absolute())}), "[model.config]", *_toml(entry.config)]
    with replacing(folder / f"{name}.toml") as file:
        file.write("\n".join(["[[model]]", *lines, ""]).encode())
    return find(name, read_manifest(folder / f"{name}.toml"))


def _told(found: Deduced, config: Mapping[str, Any]) -> str:
    """Which published network it is, if its shapes have told, and what has been taken for that; for people."""
    taken = [f"{key} = {json.dumps(value)}" for key, value in found.taken.items() if key not in config]
    told = f"{found.published} by its shapes" if found.published else ""
    return f"{told}, hence {', '.join(taken)}" if taken else told


def _toml(values: Mapping[str, Any]) -> list[str]:
    """Lines of TOML, which writes numbers, lists, true and strings as JSON does, and has no null."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]


def _network(source: Path, state: Mapping[str, Tensor]) -> Deduced:
    """Which network it is: what a safetensors file says of itself, else what shapes tell."""
    said = metadata(source) if source.suffix == ".safetensors" else {}
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
