"""Loaded networks applied to pictures."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from irestore import images
from irestore.batch.chain import Step, stages
from irestore.errors import OutOfMemoryError
from irestore.images.picture import Plane
from irestore.images.samples import one_channel
from irestore.models.network import Network
from irestore.planning import PRECISIONS, Cost, Settings, budget, cost
from irestore.processors import processors
from irestore.runner import pad, restore
from irestore.tiling import is_out_of_memory, round_up

AlphaMode = Literal["resize", "restore", "drop"]
OnProgress = Callable[[float], None]
Steps = Sequence[Step] | None  # None: all that there are networks for
LARGEST_BATCH = 16  # pictures; beyond that, or beyond so many pixels, a GPU gains nothing
BATCH_PIXELS = 2**20
MOST_BESIDE = 8  # pictures computed side by side on a CPU; more would wait for each other in Python
SMALL = 2**18  # pixels; a larger picture keeps all threads of a CPU busy by itself


class Loaded:
    """One network with its settings, among them the tile, which becomes smaller where it has not fitted."""

    def __init__(self, network: Network, settings: Settings) -> None:
        self.network = network
        self.parameters = sum(each.numel() for each in network.parameters())
        self.settings = settings
        self.beside: list[Network] = []  # the same on other devices, which compute some of the tiles
        half = PRECISIONS.get(settings.precision)
        self.halved = [network.halved(half)] if half else []  # once, and not for each picture
        self._planes = 3 if network.in_chans == 1 else 1  # pictures that the network sees of one of ours

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size that the network computes. Pictures of one padded size can be restored at once."""
        return round_up(height, self.network.multiple), round_up(width, self.network.multiple)

    def cost(self, height: int, width: int, batch: int = 1) -> Cost:
        """What so many pictures of that size take."""
        return cost(self.network, height, width, self.settings, batch=batch * self._planes)

    def __call__(self, planes: Sequence[Plane], strength: float = 1, progress: OnProgress | None = None) -> list[Plane]:
        """Arrays (H, W, 3) of one padded size -> arrays (H * scale, W * scale, 3); `strength` as of `Restorer`."""
        tensors = [torch.from_numpy(each).permute(2, 0, 1)[None] for each in planes]  # (1, 3, H, W)
        if len(tensors) > 1:  # padded here as `restore` would, so that they fit together
            tensors = [pad(each, self.network.multiple) for each in tensors]
        result = self.restored(torch.cat(tensors) if len(tensors) > 1 else tensors[0], strength, progress)
        scale = self.network.scale
        sizes = (plane.shape[:2] for plane in planes)
        cut = [each[:, : h * scale, : w * scale] for each, (h, w) in zip(result, sizes, strict=True)]
        return [each.permute(1, 2, 0).contiguous().numpy() for each in cut]

    def restored(self, image: Tensor, strength: float = 1, progress: OnProgress | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H * scale, W * scale); a network of one channel takes each colour as a picture."""
        planes = image
        if self.network.in_chans == 1 and image.shape[1] == 3:
            planes = image.reshape(-1, 1, *image.shape[2:])
        result = restore(
            self.network, planes, self.settings, progress, shrunk=self._remember, beside=self.beside, halved=self.halved
        )
        result = result.view(len(image), -1, *result.shape[2:])
        return torch.lerp(image.to(result), result, strength) if strength < 1 else result

    def _remember(self, tile: int) -> None:
        """Begin the next picture with a tile that has fitted into memory."""
        before = self.settings.tile
        self.settings = replace(self.settings, tile=min(before, tile) if isinstance(before, int) else tile)


class Restorer:
    """Networks with their settings. Small pictures may be computed side by side on a CPU, a thread each.

    Which they are depends on their size alone, since the number of threads that compute a picture can move its last
    bit. A picture goes through the networks of some steps one after the other, by default through all. `strength`
    below 1 blends what the last one gives with what it was given, for networks of scale 1.
    """

    def __init__(
        self, networks: Mapping[Step, Network], settings: Settings, *, alpha: AlphaMode = "resize", strength: float = 1
    ) -> None:
        self.device = next((network.device for network in networks.values()), torch.device("cpu"))
        self._loaded = {step: Loaded(network, settings) for step, network in networks.items()}
        self._alpha: AlphaMode = alpha
        self._strength, self._settings = strength, settings
        self._threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.beside = self._threads // -(-self._threads // MOST_BESIDE)
        # Threads that read or write meanwhile: to compute takes a CPU about five times as long, but a GPU less time.
        spare = max(2, self.beside // 2) if self.device.type == "cpu" else 2 + min(8, processors())
        self.workers = self.beside + spare
        self.large_pictures = 1 + spare  # in memory at once, of those that are computed alone

    def on(self, device: torch.device | str) -> "Restorer":
        """A copy for another device, with the threads that there are now; the networks themselves move there."""
        networks = {step: each.network.to(device) for step, each in self._loaded.items()}
        return Restorer(networks, self._settings, alpha=self._alpha, strength=self._strength)

    def share(self, others: "Sequence[Restorer]") -> None:
        """Let the devices of these compute tiles of each picture, too."""
        for step, loaded in self._loaded.items():
            same = [other._loaded[step] for other in others]
            loaded.beside = [other.network for other in same]
            loaded.halved += [network for other in same for network in other.halved]

    def side_by_side(self, height: int, width: int, steps: Steps = None) -> int:
        """How many pictures of that size may be computed at the same time, each in a thread of its own."""
        if self.beside == 1 or height * width > SMALL:
            return 1
        for loaded, tall, wide in self._stages(height, width, steps):
            planned = loaded.cost(tall, wide)
            all_bytes = self.workers * planned.bytes
            fit = planned.storage == "device" and all_bytes <= budget(self.device, loaded.settings)
            if not fit or tall * wide > SMALL:
                return 1
        return self.beside

    def share_threads(self, side_by_side: int) -> None:
        """Give this thread, as one of so many that compute at once, its part of the CPU's threads."""
        if self.device.type == "cpu":
            torch.get_num_threads()  # once asked, a thread keeps the number that is set below as its own
            torch.set_num_threads(self._threads // side_by_side)

    def padded(self, height: int, width: int, steps: Steps = None) -> tuple[tuple[int, int], ...]:
        """The sizes that the networks compute. Pictures for which they are the same can be restored at once."""
        return tuple((tall, wide) for _, tall, wide in self._stages(height, width, steps))

    def _stages(self, height: int, width: int, steps: Steps) -> Iterator[tuple[Loaded, int, int]]:
        for step, tall, wide in stages(tuple(self._loaded) if steps is None else steps, height, width):
            yield self._loaded[step], *self._loaded[step].padded(tall, wide)

    def batch_size(self, height: int, width: int, steps: Steps = None) -> int:
        """How many pictures of that size to restore at once: as many as a GPU holds untiled, one elsewhere."""
        count = LARGEST_BATCH if self.device.type == "cuda" else 1
        for loaded, tall, wide in self._stages(height, width, steps):
            while count > 1:
                planned = loaded.cost(tall, wide, count)
                untiled = planned.storage == "device" and planned.tile in (None, (tall, wide))
                if untiled and count * tall * wide <= BATCH_PIXELS:
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

    def __call__(
        self, pictures: Sequence[images.Picture], progress: OnProgress = lambda share: None, steps: Steps = None
    ) -> list[images.Picture]:
        """Pictures of the same `padded` sizes -> what the networks make of them, each as if it had been alone.

        `progress` gets the fraction done, rising. Raises RestoreError; NonFiniteError where even float32 gives NaN or
        infinity.
        """
        height, width = pictures[0].height, pictures[0].width
        chain = [(each, each.parameters * tall * wide) for each, tall, wide in self._stages(height, width, steps)]
        done, total = 0, sum(work for _, work in chain)

        def told(share: float) -> None:
            progress((done + share * work) / total)

        restored = list(pictures)
        if self._alpha == "drop":
            restored = [replace(images.fill_transparent(picture), alpha=None) for picture in pictures]
        try:
            for number, (loaded, work) in enumerate(chain, 1):
                strength = self._strength if number == len(chain) else 1
                restored = self._through(loaded, restored, strength, told)
                done += work
        except RuntimeError as error:  # before or after the network: what it meets there itself it tells
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError("its result does not fit into memory: close other programs") from error
        return restored

    def _through(
        self, loaded: Loaded, pictures: Sequence[images.Picture], strength: float, progress: OnProgress
    ) -> list[images.Picture]:
        """Pictures of one padded size, by one network."""
        filled = [images.fill_transparent(picture) for picture in pictures]
        planes = [
            one_channel(each.pixels)[..., None].repeat(3, axis=2) if each.grey else each.pixels for each in filled
        ]
        pixels = loaded(planes, strength, progress)
        return [
            picture.replaced(restored, self._alpha_of(loaded, picture, strength))
            for picture, restored in zip(filled, pixels, strict=True)
        ]

    def _alpha_of(self, loaded: Loaded, picture: images.Picture, strength: float) -> Plane | None:
        if picture.alpha is None:
            return None
        if self._alpha == "resize":
            scale = loaded.network.scale
            return images.resize_alpha(picture.alpha, picture.height * scale, picture.width * scale)
        return one_channel(loaded([picture.alpha[..., None].repeat(3, axis=2)], strength)[0])
