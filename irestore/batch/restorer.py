"""A loaded network applied to pictures: what `run` calls between reading and writing."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from irestore import images
from irestore.errors import OutOfMemoryError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from irestore.models.network import Network
    from irestore.runner import Settings

AlphaMode = Literal["resize", "restore", "drop"]
LARGEST_BATCH = 16  # pictures; beyond that a GPU gains nothing and memory is better left to tiles
PENDING_A_LANE = 2  # pictures that are computed, or wait for one that came before them, so that no lane stands still
MOST_LANES = 8  # more would wait for each other in Python
SMALL = 2**18  # pixels; a larger picture keeps all threads of a CPU busy by itself


class Restores(Protocol):
    """What `run` needs of a network. With several lanes it is called from several threads at once."""

    name: str
    lanes: int  # how many pictures may be computed side by side, each in a thread of its own

    def enter_lane(self) -> None:
        """Called first in each lane's thread."""

    def beside(self, height: int, width: int) -> bool:
        """Whether a picture of that size is to be computed on a lane, beside others."""

    def __call__(self, pictures: Sequence[images.Picture], progress: Callable[[float], None]) -> list[images.Picture]:
        """The restored pictures, in order; `progress` gets the fraction done, rising."""

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the network computes; pictures of one padded size can be restored at once."""

    def together(self, height: int, width: int) -> int:
        """How many pictures of that size to restore at once."""

    def peak_bytes(self) -> int:
        """The most memory used so far, of the GPU if the network is on one, else of the process."""


class Restorer:
    """A model with its settings. On a CPU it has a lane a thread; where PyTorch has more than 8, lanes of several.

    `strength` below 1 blends the result with the input, for models of scale 1.
    """

    def __init__(
        self, model: "Network", name: str, settings: "Settings", *, alpha: AlphaMode = "resize", strength: float = 1.0
    ) -> None:
        self.name = name
        self._model = model
        self._settings = settings
        self._alpha: AlphaMode = alpha
        self._strength = strength
        self._device = next(model.parameters()).device
        self._planes = 3 if model.in_chans == 1 else 1  # pictures that the network sees of one of ours
        threads = _threads() if self._device.type == "cpu" else 1
        self._lane_threads = -(-threads // MOST_LANES)
        self.lanes = threads // self._lane_threads

    def __call__(self, pictures: Sequence[images.Picture], progress: Callable[[float], None]) -> list[images.Picture]:
        """Pictures of one padded size -> pictures of `scale` times their sizes, each as if it had been alone.

        Raises RestoreError; NonFiniteError where even float32 gives NaN or infinity.
        """
        from irestore.tiling import is_out_of_memory

        try:
            return self._pictures(pictures, progress)
        except RuntimeError as error:  # before or after the network: what it meets there itself it tells
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError("its result does not fit into memory: close other programs") from error

    def _pictures(self, pictures: Sequence[images.Picture], progress: Callable[[float], None]) -> list[images.Picture]:
        filled = [images.fill_transparent(picture) for picture in pictures]
        pixels = self._restored([picture.pixels for picture in filled], progress)
        return [
            picture.replaced(restored, self._alpha_of(picture))
            for picture, restored in zip(filled, pixels, strict=True)
        ]

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size in whole windows."""
        window = self._model.window
        return -(-height // window) * window, -(-width // window) * window

    def together(self, height: int, width: int) -> int:
        """As many as a GPU holds on itself, untiled, 16 at most; one elsewhere, where a batch gains nothing."""
        from irestore.runner import cost

        count = LARGEST_BATCH if self._device.type == "cuda" else 1
        while count > 1:
            planned = cost(self._model, height, width, self._settings, batch=count * self._planes)
            if planned.storage == "device" and planned.tile in (None, self.padded(height, width)):
                break
            count //= 2
        return count

    def enter_lane(self) -> None:
        """From here on this thread, and no other, computes with a lane's share of the threads."""
        import torch

        torch.set_num_threads(self._lane_threads)

    def beside(self, height: int, width: int) -> bool:
        """Small ones, where as many of that size as may be pending fit into the memory that may be taken."""
        from irestore.runner import budget, cost

        height, width = self.padded(height, width)
        if self.lanes == 1 or height * width > SMALL:
            return False
        planned = cost(self._model, height, width, self._settings, batch=self._planes)
        pending = PENDING_A_LANE * self.lanes
        return planned.storage == "device" and pending * planned.bytes <= budget(self._device, self._settings)

    def peak_bytes(self) -> int:
        """Peak of the tensors on a CUDA device, of the whole process elsewhere; 0 where the system does not tell."""
        if self._device.type == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated(self._device))
        return process_peak_bytes()

    def _restored(
        self, planes: "Sequence[NDArray[np.float32]]", progress: Callable[[float], None]
    ) -> "list[NDArray[np.float32]]":
        """Arrays (H, W, 3) of one padded size -> arrays (H * scale, W * scale, 3)."""
        import torch

        from irestore.runner import pad

        image = torch.from_numpy(planes[0]).permute(2, 0, 1)[None]
        if len(planes) > 1:  # padded here as `restore` would, so that they fit together
            image = torch.cat(
                [pad(torch.from_numpy(each).permute(2, 0, 1)[None], self._model.window) for each in planes]
            )
        result = self._compute(image, progress)
        if self._strength < 1:
            result = torch.lerp(image, result, self._strength)
        scale = self._model.scale
        cut = [
            each[:, : h * scale, : w * scale] for each, (h, w, _) in zip(result, (p.shape for p in planes), strict=True)
        ]
        return [each.permute(1, 2, 0).contiguous().numpy() for each in cut]

    def _compute(self, image: "torch.Tensor", progress: Callable[[float], None]) -> "torch.Tensor":
        """As `restore`, for networks of one channel too, which take each colour as a picture of its own."""
        from irestore.runner import restore

        if self._model.in_chans == 1 and image.shape[1] == 3:
            planes = self._compute(image.reshape(-1, 1, *image.shape[2:]), progress)
            return planes.reshape(-1, 3, *planes.shape[2:])
        return restore(self._model, image, self._settings, progress)

    def _alpha_of(self, picture: images.Picture) -> "NDArray[np.float32] | None":
        if picture.alpha is None or self._alpha == "drop":
            return None
        if self._alpha == "resize":
            return images.resize_alpha(picture.alpha, self._model.scale)
        plane = picture.alpha[..., None].repeat(3, axis=2)
        restored: NDArray[np.float32] = self._restored([plane], lambda _: None)[0].mean(axis=2)
        return restored


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def process_peak_bytes() -> int:
    """The largest resident size of this process so far; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
