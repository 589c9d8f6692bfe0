"""A loaded network applied to pictures."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import cpu_count
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from irestore import images
from irestore.errors import OutOfMemoryError
from irestore.models.network import Network
from irestore.runner import Settings, budget, cost, pad, restore
from irestore.tiling import is_out_of_memory

AlphaMode = Literal["resize", "restore", "drop"]
Progress = Callable[[float], None]
LARGEST_BATCH = 16  # pictures; beyond that, or beyond so many pixels, a GPU gains nothing
BATCH_PIXELS = 2**20
MOST_BESIDE = 8  # pictures computed side by side on a CPU; more would wait for each other in Python
SMALL = 2**18  # pixels; a larger picture keeps all threads of a CPU busy by itself


class Restorer:
    """A model with its settings. Small pictures may be computed side by side on a CPU, a thread each.

    Which they are depends on their size alone, since the number of threads that compute a picture can move its last
    bit. `strength` below 1 blends the result with the input, for models of scale 1.
    """

    def __init__(
        self, model: Network, name: str, settings: Settings, *, alpha: AlphaMode = "resize", strength: float = 1.0
    ) -> None:
        self.name = name
        self.scale = model.scale
        self.device = model.device
        self._model = model
        self._settings = settings
        self._alpha: AlphaMode = alpha
        self._strength = strength
        self._planes = 3 if model.in_chans == 1 else 1  # pictures that the network sees of one of ours
        self._threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.beside = self._threads // -(-self._threads // MOST_BESIDE)
        # Threads that read or write meanwhile: to compute takes a CPU about five times as long, but a GPU less time.
        spare = max(2, self.beside // 2) if self.device.type == "cpu" else 2 + min(8, cpu_count() or 1)
        self.workers = self.beside + spare
        self.large_pictures = 1 + spare  # in memory at once, of those that are computed alone

    def side_by_side(self, height: int, width: int) -> int:
        """How many pictures of that size may be computed at the same time, each in a thread of its own."""
        height, width = self.padded(height, width)
        if self.beside == 1 or height * width > SMALL:
            return 1
        planned = cost(self._model, height, width, self._settings, batch=self._planes)
        all_bytes = self.workers * planned.bytes
        fit = planned.storage == "device" and all_bytes <= budget(self.device, self._settings)
        return self.beside if fit else 1

    def share_threads(self, side_by_side: int) -> None:
        """Give this thread, as one of so many that compute at once, its part of the CPU's threads."""
        if self.device.type == "cpu":
            torch.get_num_threads()  # once asked, a thread keeps the number that is set below as its own
            torch.set_num_threads(self._threads // side_by_side)

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size in whole windows. Pictures of one padded size can be restored at once."""
        window = self._model.window
        return -(-height // window) * window, -(-width // window) * window

    def batch_size(self, height: int, width: int) -> int:
        """How many pictures of that size to restore at once: as many as a GPU holds untiled, one elsewhere."""
        if self.device.type != "cuda":
            return 1
        count = LARGEST_BATCH
        while count > 1:
            planned = cost(self._model, height, width, self._settings, batch=count * self._planes)
            untiled = planned.storage == "device" and planned.tile in (None, self.padded(height, width))
            if untiled and count * height * width <= BATCH_PIXELS:
                break
            count //= 2
        return count

    def peak_bytes(self) -> int:
        """Peak of the tensors on a CUDA device, of the whole process elsewhere; 0 where the system does not tell."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        if sys.platform == "win32":
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def __call__(self, pictures: Sequence[images.Picture], progress: Progress) -> list[images.Picture]:
        """Pictures of one padded size -> pictures of `scale` times their sizes, each as if it had been alone.

        `progress` gets the fraction done, rising. Raises RestoreError; NonFiniteError where even float32 gives NaN or
        infinity.
        """
        try:
            filled = [images.fill_transparent(picture) for picture in pictures]
            pixels = self._restored([picture.pixels for picture in filled], progress)
            return [
                picture.replaced(restored, self._alpha_of(picture))
                for picture, restored in zip(filled, pixels, strict=True)
            ]
        except RuntimeError as error:  # before or after the network: what it meets there itself it tells
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError("its result does not fit into memory: close other programs") from error

    def _restored(self, planes: Sequence[NDArray[np.float32]], progress: Progress) -> list[NDArray[np.float32]]:
        """Arrays (H, W, 3) of one padded size -> arrays (H * scale, W * scale, 3)."""
        tensors = [torch.from_numpy(each).permute(2, 0, 1)[None] for each in planes]  # (1, 3, H, W)
        if len(tensors) > 1:  # padded here as `restore` would, so that they fit together
            tensors = [pad(each, self._model.window) for each in tensors]
        image = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        result = self._compute(image, progress)
        if self._strength < 1:
            result = torch.lerp(image, result, self._strength)
        scale = self.scale
        sizes = (plane.shape[:2] for plane in planes)
        cut = [each[:, : h * scale, : w * scale] for each, (h, w) in zip(result, sizes, strict=True)]
        return [each.permute(1, 2, 0).contiguous().numpy() for each in cut]

    def _compute(self, image: torch.Tensor, progress: Progress) -> torch.Tensor:
        """As `restore`, for networks of one channel too, which take each colour as a picture of its own."""
        if self._model.in_chans == 1 and image.shape[1] == 3:
            planes = self._compute(image.reshape(-1, 1, *image.shape[2:]), progress)
            return planes.reshape(-1, 3, *planes.shape[2:])
        return restore(self._model, image, self._settings, progress, shrunk=self._remember)

    def _remember(self, tile: int) -> None:
        """Begin the next picture with a tile that has fitted into memory."""
        before = self._settings.tile
        self._settings = replace(self._settings, tile=min(before, tile) if isinstance(before, int) else tile)

    def _alpha_of(self, picture: images.Picture) -> NDArray[np.float32] | None:
        if picture.alpha is None or self._alpha == "drop":
            return None
        if self._alpha == "resize":
            return images.resize_alpha(picture.alpha, self.scale)
        plane = picture.alpha[..., None].repeat(3, axis=2)
        restored: NDArray[np.float32] = self._restored([plane], lambda _: None)[0].mean(axis=2)
        return restored
