"""Verified file -> loaded model. Strict: no tensor lacks or is left over, shapes and types fit, nothing is NaN."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irestore.errors import UsageError, WeightsError
from irestore.tasks import TASKS
from irestore.weights.manifest import Entry

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from irestore.models.network import Network

METADATA = "irestore"  # the key of a safetensors file's metadata under which JSON says architecture, config, task, ...


def read(entry: Entry, path: Path, device: "torch.device | str" = "cpu") -> "Network":
    """The model in eval mode, float32, on `device`, from the entry's verified file. Raises WeightsError."""
    from irestore import models

    entry = describe(entry, path)
    model = models.build(entry.architecture, entry.config)
    fill(model, models.rename(entry.dialect, tensors(path)), entry.name)
    if model.scale != entry.scale:
        raise WeightsError(
            f"{entry.name}: the network enlarges {model.scale} times, not {entry.scale} as its entry says"
        )
    return model.eval().requires_grad_(False).to(device)


def from_file(path: Path | str, *, architecture: str | None = None, config: Mapping[str, Any] | None = None) -> Entry:
    """The entry of one's own safetensors file: what its metadata says, and what the options say over that.

    Raises UsageError where neither says the architecture, WeightsError where the file is no safetensors file.
    """
    path = Path(path)
    given = Entry(
        name=path.stem, task="", scale=0, architecture=architecture or "", config=config or {}, file=path.name,
        sha256=None, licence="", folder=path.parent,
    )  # fmt: skip
    return describe(given, path)


def from_hub(reference: str, *, architecture: str | None = None, config: Mapping[str, Any] | None = None) -> Entry:
    """The entry of `hf:owner/repo/file.safetensors@revision`. What the options leave out, the file's metadata must say.

    Until the file is there (see `obtain`), its scale is 0 unless `config` has `upscale`. Raises UsageError for another
    form, and for a reference without a revision.
    """
    from irestore.weights.manifest import PATTERNS, is_safe

    upscale = (config or {}).get("upscale")
    place, at, revision = reference.removeprefix("hf:").partition("@")
    owner, _, rest = place.partition("/")
    repo, _, file = rest.partition("/")
    if not PATTERNS["repo"][0].fullmatch(f"{owner}/{repo}") or not is_safe(file):
        raise UsageError(f"{reference!r}: write hf:OWNER/REPO/FILE.safetensors@REVISION")
    if not at or not revision or not revision.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise UsageError(
            f"{reference!r}: add @ and the commit (40 hex digits), so that the file cannot change unnoticed"
        )
    scale = upscale if isinstance(upscale, int) else 0
    return Entry(
        name=Path(file).stem, task="", scale=scale, architecture=architecture or "", config=config or {}, file=file,
        sha256=None, licence="", repo=f"{owner}/{repo}", revision=revision,
    )  # fmt: skip


def describe(entry: Entry, path: Path) -> Entry:
    """The entry, with what it leaves open filled in from the file's own metadata. Raises UsageError, WeightsError."""
    if entry.architecture and entry.scale and entry.task:
        return entry
    said = metadata(path)
    if not (entry.architecture or said.get("architecture")):
        raise UsageError(
            f"{path}: neither the file nor an option says which network it is; give --architecture and --config, "
            "or convert the file once with `irestore models import`"
        )
    config = {**said.get("config", {}), **entry.config}
    scale = config.get("upscale")
    if not isinstance(scale, int):
        raise UsageError(f"{path}: the config has no upscale; give --config upscale=N")
    return replace(
        entry,
        architecture=entry.architecture or said["architecture"],
        config=config,
        dialect=entry.dialect or said.get("dialect"),
        task=entry.task or said.get("task") or ("sr" if scale > 1 else ""),
        scale=scale,
    )


def metadata(path: Path) -> dict[str, Any]:
    """What `models import` and `training` wrote about a file into it; empty if nothing. Raises WeightsError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    except SafetensorError as error:
        raise WeightsError(not_safetensors(path, error)) from error
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error
    except ValueError as error:
        raise WeightsError(f"{path}: its metadata {METADATA!r} is not JSON: {error}") from error
    types = {"architecture": str, "config": dict, "dialect": (str, type(None)), "task": str}
    if not isinstance(said, dict) or any(key in said and not isinstance(said[key], types[key]) for key in types):  # type: ignore[arg-type]
        raise WeightsError(f"{path}: its metadata {METADATA!r} does not hold architecture, config, dialect and task")
    if said.get("task", "sr") not in TASKS:
        raise WeightsError(f"{path}: its metadata names the task {said['task']!r}; must be one of {', '.join(TASKS)}")
    return said


def tensors(path: Path) -> "dict[str, Tensor]":
    """Every tensor of a safetensors file, on the CPU. Raises WeightsError; nothing in the file is ever run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(not_safetensors(path, error)) from error
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: is not there" if isinstance(error, FileNotFoundError) else f"{path}: cannot read it: {error}"


def not_safetensors(path: Path, error: Exception) -> str:
    """What the file seems to be instead, and what to do about it."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith((b"PK", b"\x80")):
        return (
            f"{path}: is a pickle, which could run code, and not loaded; "
            "convert it, named .pth: irestore models import FILE.pth"
        )
    if start.startswith(b"<"):
        return f"{path}: is a web page, not a safetensors file; download the file itself"
    return f"{path}: is not a safetensors file ({error}); get it again"


def fill(model: "nn.Module", state: "Mapping[str, Tensor]", name: str) -> None:
    """Copies the tensors into the model, which needs exactly these. Raises WeightsError that names the bad ones."""
    import torch

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
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{name}: {key} holds NaN or infinity; the file is damaged or the training failed")
        if not tensor.is_floating_point() and not torch.equal(tensor, own[key]):
            raise WeightsError(f"{name}: {key} has other values than the config implies; is the config another one?")
    model.load_state_dict(dict(state))


def _some(keys: Iterable[str]) -> str:
    named = sorted(keys)
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
