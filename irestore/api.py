"""The Python interface: `load` a model by name, `restore` a picture that is in memory."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import numpy as np
import torch

from irestore import weights
from irestore.batch.chain import Step
from irestore.batch.restorer import Loaded, Restorer
from irestore.devices import pick
from irestore.errors import UsageError
from irestore.images.samples import PillowImage, check_range, from_array, from_pillow, to_array, to_pillow
from irestore.models.network import Network
from irestore.planning import Settings
from irestore.tasks import TASKS

Picture = TypeVar("Picture", PillowImage, np.ndarray[Any, Any], torch.Tensor)


def load(name: str, *, device: str = "auto", offline: bool = False) -> Network:
    """The model of that name, verified, ready to compute on `device`; downloaded where it is not here yet.

    name: one of `irestore models`, FILE.safetensors, or hf:OWNER/REPO/FILE.safetensors@REVISION. Raises
    UnknownModelError, DownloadError, WeightsError; UsageError for the device.
    """
    known = weights.entries()
    entry = weights.describe_own(name) if weights.is_own(name, known) else weights.find(name, known)
    found = weights.obtain((entry,), offline=offline)
    return weights.read(found.entry, found.path, pick(device))


def restore(
    image: Picture,
    task: str | None = None,
    scale: int | None = None,
    *,
    model: Network | str | None = None,
    strength: float = 1.0,
    settings: Settings | None = None,
) -> Picture:
    """The restored picture, of the same kind as `image`.

    image: a Pillow image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16, or floating in 0..1; or a tensor
    (3, H, W) or (B, 3, H, W), floating in 0..1 (the result is on the CPU). Colour is RGB, alpha is resized along.
    task: as on the command line, by default what the model is made for, or "sr"; `scale` 2, 3 or 4 (the default) is for
    "sr", the others keep the size and have `strength`: 0 is the input, 1 all of the restoration.
    model: what `load` gave, a name that it takes, or "best" or "fast"; by default the best one, on a CPU or without a
    connection (then with a UserWarning) the bundled one. For many pictures load once and pass the model.
    Raises IrestoreError of the fitting kind.
    """
    if task is not None and task not in TASKS:
        raise UsageError(f"task {task!r}: must be one of {', '.join(TASKS)}")
    if isinstance(model, str) and model not in weights.CHOICES:
        model = load(model)
    network = model if isinstance(model, Network) else _default(task or "sr", scale or 4, model)
    _check_asked(network, task, scale, strength)
    settings = settings or Settings()
    if isinstance(image, torch.Tensor):
        return _tensor(network, image, strength, settings)
    restorer = Restorer({Step(network.task, network.scale): network}, settings, strength=strength)
    if isinstance(image, np.ndarray):
        return to_array(restorer([from_array(image)])[0], image)
    if type(image).__module__.partition(".")[0] != "PIL":
        raise UsageError(f"image is a {type(image).__name__}: must be a Pillow image, a numpy array or a torch tensor")
    return to_pillow(restorer([from_pillow(image)])[0], image)


def _default(task: str, scale: int, choice: str | None) -> Network:
    """The model for a task where none is named."""
    device = pick()
    wanted = weights.candidates(task, scale if TASKS[task].enlarges else 1, choice)
    found = weights.obtain(weights.bundled_first(wanted) if device.type == "cpu" else wanted)
    if found.warning:
        warnings.warn(f'{found.warning}; to insist: model="{wanted[0].name}"', stacklevel=3)
    return weights.read(found.entry, found.path, device)


def _check_asked(network: Network, task: str | None, scale: int | None, strength: float) -> None:
    """Check whether the model does what was asked for. Raises UsageError."""
    if network.task and task not in (None, network.task):
        raise UsageError(f"{network.name} is made for {network.task}, not for {task}")
    if scale not in (None, network.scale) and (network.scale > 1 or task == "sr"):
        raise UsageError(f"{network.name or 'the model'} enlarges {network.scale} times, not {scale}")
    if not 0 <= strength <= 1:
        raise UsageError(f"strength {strength}: must be a number from 0 to 1")
    if strength < 1 and network.scale > 1:
        raise UsageError(f"strength {strength}: is for models that keep the size")


def _tensor(network: Network, image: torch.Tensor, strength: float, settings: Settings) -> torch.Tensor:
    if not image.is_floating_point():
        raise UsageError(f"tensor of {image.dtype}: must be floating, in 0..1")
    if image.numel():
        check_range(float(image.min()), float(image.max()), "tensor")
    result = Loaded(network, settings).restored(image if image.ndim == 4 else image[None], strength)
    return result if image.ndim == 4 else result[0]
