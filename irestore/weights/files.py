"""Files -> tensors -> a network, strictly: none lacks or is left over, shapes and types fit, and nothing is NaN.

This imports torch; whoever has not decided to compute imports `irestore.weights`, which brings it late.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from irestore import models
from irestore.errors import WeightsError
from irestore.models.network import Network
from irestore.weights.manifest import Entry
from irestore.weights.own import describe, readable


def read(entry: Entry, path: Path, device: torch.device | str = "cpu") -> Network:
    """The model in eval mode, float32, on `device`, from the entry's verified file. Raises WeightsError."""
    entry = describe(entry, path)
    state = models.rename(entry.dialect, tensors(path))
    model = filled(entry.architecture, entry.config, state, entry.name)
    if model.scale != entry.scale:
        raise WeightsError(
            f"{entry.name}: the network enlarges {model.scale} times, not {entry.scale} as its entry says"
        )
    return model.eval().requires_grad_(False).to(device)


def tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, on the CPU. Raises WeightsError; nothing in the file is ever run."""
    with readable(path):
        return load_file(path)


def filled(architecture: str, config: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> Network:
    """A network with these tensors. A large one is not built where they do not fit. Raises WeightsError."""
    model = models.build(architecture, config, check=lambda sketch: check(sketch, state, name))
    fill(model, state, name)
    return model


def check(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Raises WeightsError where names, shapes or types of the tensors are not the model's."""
    own = model.state_dict()
    for problem, keys in (
        ("lacks", own.keys() - state.keys()),
        ("has, but the network has not,", state.keys() - own.keys()),
    ):
        if keys:
            raise WeightsError(
                f"{name}: the file {problem} {_some(keys)}; is the architecture or the config another one?"
            )
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


def _some(keys: Iterable[str]) -> str:
    first, *more = sorted(keys)
    return ", ".join([first, *more[:2]]) + (f" and {len(more) - 2} more" if len(more) > 2 else "")
