"""Files -> tensors -> a network, strictly: none lacks or is left over, shapes and types fit, and nothing is NaN.

This imports torch; `irestore.weights` brings it late.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from irestore import models
from irestore.errors import OutOfMemoryError, WeightsError
from irestore.models.network import Network
from irestore.tiling import is_out_of_memory
from irestore.weights.local import locate
from irestore.weights.manifest import Entry
from irestore.weights.own import describe, readable

SCALE = ".scale"  # after the name of a tensor of 8 bits: what its rows are multiplied by


def load(
    entry: Entry, *, offline: bool = False, device: torch.device | str = "cpu", model_dir: Path | str | None = None
) -> Network:
    """The model in eval mode, float32, on `device`. Raises DownloadError, WeightsError or UsageError."""
    return read(entry, locate(entry, offline=offline, model_dir=model_dir), device)


def read(entry: Entry, path: Path, device: torch.device | str = "cpu") -> Network:
    """The model in eval mode, float32, on `device`, from the entry's verified file.

    Raises WeightsError; OutOfMemoryError where the device is full.
    """
    entry = describe(entry, path)
    with readable(path):
        state = models.rename(entry.dialect, unpacked(load_file(path), entry.name))
    model = filled(entry.architecture, entry.config, state, entry.name)
    if model.scale != entry.scale:
        raise WeightsError(
            f"{entry.name}: the network enlarges {model.scale} times, not {entry.scale} as its entry says"
        )
    model.name, model.task = entry.name, entry.task
    try:
        return model.eval().requires_grad_(False).to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{entry.name}: does not fit into the memory of {device}: close other programs, or take --device cpu"
        ) from error


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels (N, ...) as int8, each of the N rows with a scale of its own; the rest as float16.

    So is the first convolution: in 8 bits it alone would cost a network for noise 0.03 dB, all others together 0.002.
    """
    result = {}
    for name, tensor in state.items():
        result[name] = tensor.half() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and tensor.ndim > 1 and not name.startswith("conv_first."):
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
