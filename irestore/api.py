"""The Python interface: `load` a model by name, `restore` a picture that is in memory."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import numpy as np
import torch

from irestore import weights
from irestore.batch.chain import Step
from irestore.batch.restorer import Restorer
from irestore.devices import pick
from irestore.errors import UsageError
from irestore.images.samples import PillowImage, from_array, from_pillow, to_array, to_pillow
from irestore.models.network import Network
from irestore.runner import Settings
from irestore.runner import restore as restore_tensor
from irestore.tasks import TASKS

Picture = TypeVar("Picture", PillowImage, np.ndarray[Any, Any], torch.Tensor)


def load(name: str, *, device: str = "auto", offline: bool = False) -> Network:
    """The named model of the manifest, verified, ready to compute on `device`; downloaded where it is not here yet.

    `irestore models` lists the names. Raises UnknownModelError, DownloadError, WeightsError; UsageError for the device.
    """
    return weights.load(weights.find(name, weights.entries()), offline=offline, device=pick(device))


def restore(
    image: Picture,
    task: str = "sr",
    scale: int = 4,
    *,
    model: Network | str | None = None,
    settings: Settings | None = None,
) -> Picture:
    """The restored picture, of the same kind as `image`.

    image: a Pillow image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16, or floating in 0..1; or a tensor
    (3, H, W) or (B, 3, H, W), floating in 0..1 (the result is on the CPU). Colour is RGB, alpha is resized along.
    task: as on the command line; `scale` 2, 3 or 4 is for "sr", the others keep the size.
    model: what `load` gave, or a name; by default the task's first model, without a connection the bundled one (with a
    UserWarning). For many pictures load once and pass the model. Raises IrestoreError of the fitting kind.
    """
    if not isinstance(model, Network):
        if task not in TASKS:
            raise UsageError(f"task {task!r}: must be one of {', '.join(TASKS)}")
        found = weights.obtain(weights.candidates(task, scale if TASKS[task].enlarges else 1, model))
        if found.warning:
            warnings.warn(found.warning, stacklevel=2)
        model = weights.read(found.entry, found.path, pick())
    settings = settings or Settings()
    if isinstance(image, torch.Tensor):
        if not image.is_floating_point():
            raise UsageError(f"tensor of {image.dtype}: must be floating, in 0..1")
        result = restore_tensor(model, image if image.ndim == 4 else image[None], settings)
        return result if image.ndim == 4 else result[0]
    restorer = Restorer({Step(task, model.scale): model}, settings)
    if isinstance(image, np.ndarray):
        return to_array(restorer([from_array(image)], lambda share: None)[0], image)
    if type(image).__module__.partition(".")[0] != "PIL":
        raise UsageError(f"image is a {type(image).__name__}: must be a Pillow image, a numpy array or a torch tensor")
    return to_pillow(restorer([from_pillow(image)], lambda share: None)[0], image)
