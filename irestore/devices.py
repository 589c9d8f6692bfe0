"""Which device computes, and how much memory is free there."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from irestore.errors import UsageError

KNOWS_BF16: bool = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # whether this CPU has instructions for it


def pick(name: str = "auto") -> torch.device:
    """The device of that name: "auto" (CUDA, else MPS, else CPU), "cuda", "cuda:N", "mps" or "cpu".

    Raises UsageError where there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError("device mps: this PyTorch sees no Apple GPU; use --device cpu")
        return torch.device("mps")
    if match := re.fullmatch(r"cuda(?::(\d+))?", name):
        if not torch.cuda.is_available():
            raise UsageError(f"device {name}: this PyTorch ({torch.__version__}) sees no CUDA GPU; use --device cpu")
        index, count = int(match[1] or 0), torch.cuda.device_count()
        if index >= count:
            raise UsageError(f"device {name}: the CUDA GPUs here are cuda:0 to cuda:{count - 1}")
        return torch.device("cuda", index)
    raise UsageError(f"device {name!r}: must be auto, cpu, mps, cuda or cuda:N")


def pick_all(names: str) -> list[torch.device]:
    """The devices of names with commas between them, or all GPUs ("cuda:all"). Raises UsageError."""
    if names == "cuda:all":
        names = ",".join(f"cuda:{number}" for number in range(torch.cuda.device_count())) or "cuda"
    devices = [pick(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1:
        raise UsageError(f"device {names}: devices of several kinds do not round alike; name devices of one kind")
    return devices


def check_precision(precision: str, device: torch.device) -> None:
    """Check that the device computes in that precision, and not slower than in fp32. Raises UsageError."""
    if device.type == "cuda" and precision == "bf16" and torch.cuda.get_device_capability(device) < (8, 0):
        raise UsageError("precision bf16: this GPU does not compute in it; take fp16 or auto")
    x86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    if device.type == "cpu" and (precision == "fp16" or (precision == "bf16" and x86 and not KNOWS_BF16)):
        remedy = "bf16 or auto" if KNOWS_BF16 else "auto"
        raise UsageError(f"precision {precision}: this CPU takes several times as long as for fp32; take {remedy}")


def free_bytes(device: torch.device) -> int:
    """Bytes that a program may still take on that device without pushing others out."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return _free_host_bytes()


def total_bytes(device: torch.device) -> int:
    """Bytes of memory that a program may ever have on that device; on one machine always the same."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.exists() else "max"
    return _total_host_bytes() if allowed == "max" else min(int(allowed), _total_host_bytes())


def _free_host_bytes() -> int:
    """MemAvailable of Linux, cut to what the control group still allows; elsewhere a half of the machine's memory."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return _total_host_bytes() // 2
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    free = int(match[1]) * 1024 if match else _total_host_bytes() // 2
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        used = int((group / "memory.current").read_text())
        cached = sum(
            map(int, re.findall(r"^(?:in)?active_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE))
        )
        free = min(free, int(limit) - used + cached)
    return max(free, 0)


def _total_host_bytes() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30  # Windows: no way to ask without another package; a modest machine is assumed


def keep_freed_memory() -> None:
    """Let what a tile frees serve the next one: glibc else gives large buffers back, and the system clears new ones."""
    trim_threshold, mmap_threshold = -1, -3  # as <malloc.h> numbers them
    if platform.libc_ver()[0] == "glibc" and ctypes.CDLL(None).mallopt(mmap_threshold, 2**28):
        ctypes.CDLL(None).mallopt(trim_threshold, 2**29)


class _Exact(ExitStack):
    """Switches of the whole process, as they are while any thread is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.inside = threading.Lock(), 0


_EXACT = _Exact()


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """Inside, CUDA computes convolutions in full float32, in all threads; other devices are left alone.

    Nor does it take cuDNN's attention, which plans anew for every shape and thread.
    """
    if device.type != "cuda":
        yield
        return
    with _EXACT.lock:
        if not _EXACT.inside:
            _EXACT.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            attention = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
            _EXACT.callback(torch.backends.cuda.enable_cudnn_sdp, attention)
            torch.backends.cuda.enable_cudnn_sdp(False)
        _EXACT.inside += 1
    try:
        yield
    finally:
        with _EXACT.lock:
            _EXACT.inside -= 1
            if not _EXACT.inside:
                _EXACT.close()
