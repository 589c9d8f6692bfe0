"""Room for whole maps: memory, or a memory-mapped file of which hardly anything stays resident."""

from __future__ import annotations

import mmap
import os
import tempfile
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from irestore.errors import RestoreError


class Store:
    """One whole map (B, H, W, C) and, where it lies in a file, the means to give its resident pages back."""

    def __init__(self, data: Tensor, pages: mmap.mmap | None = None) -> None:
        self.data = data
        self._pages = pages

    @classmethod
    def memory(cls, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Store:
        """Uninitialised room in the memory of `device`.

        Not pinned on the host: that is rounded up to a power of two and never given back, and tiles, which do not lie
        together, are copied no faster.
        """
        return cls(torch.empty(shape, dtype=dtype, device=device))

    @classmethod
    def file(cls, shape: tuple[int, ...], dtype: torch.dtype) -> Store:
        """Room in an unnamed temporary file that vanishes with the Store; raises RestoreError where the disk is full.

        The folder is that of TMPDIR where it is set, else /var/tmp (which, unlike /tmp, is never kept in memory).
        """
        size_bytes = prod(shape) * dtype.itemsize
        folder = scratch_folder()
        try:
            with tempfile.TemporaryFile(dir=folder) as stream:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, size_bytes)  # a full disk is told now, not by SIGBUS later
                else:
                    stream.truncate(size_bytes)
                pages = mmap.mmap(stream.fileno(), size_bytes)
        except OSError as error:
            raise RestoreError(
                f"{folder}: no room for {size_bytes / 2**20:.0f} MiB of scratch ({error.strerror}): "
                "free some space, set TMPDIR to another folder, or raise --max-memory"
            ) from error
        return cls(torch.frombuffer(pages, dtype=dtype).view(shape), pages)

    def write(self, tile: Tensor, top: int, left: int) -> None:
        """Puts a tile (B, h, w, C) at that place of the map."""
        self.data[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
        self.release()

    def release(self) -> None:
        """Lets the system take the resident pages of a file; its content stays. Nothing for memory."""
        if self._pages is not None and hasattr(self._pages, "madvise"):
            self._pages.madvise(mmap.MADV_DONTNEED)


def scratch_folder() -> Path:
    """Where scratch files go: TMPDIR, else /var/tmp where it can be written, else the system's place."""
    lasting = Path("/var/tmp")
    if "TMPDIR" not in os.environ and lasting.is_dir() and os.access(lasting, os.W_OK):
        return lasting
    return Path(tempfile.gettempdir())
