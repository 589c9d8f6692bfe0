"""How many processors this process may keep busy. Imports nothing heavy."""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil, inf
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def processors() -> int:
    """Those that the process is bound to, but no more than its control groups pay for (as in a container)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ceil(min(bound, *map(_quota, _groups()), inf)))


def _groups() -> Iterator[Path]:
    """The folders of the control groups, version 1 or 2, that limit this process: its own and all above."""
    lines = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers or "cpu" in controllers.split(","):
            top = CGROUPS / controllers
            group = top / path.lstrip("/")
            yield from (each for each in (group, *group.parents) if each.is_relative_to(top))


def _quota(group: Path) -> float:
    """Processors' worth of time that a group may take; infinite where it has no limit, or none that can be read."""
    with suppress(OSError, ValueError):  # "max" is no number
        quota, period = map(int, (group / "cpu.max").read_text().split())
        return quota / period
    with suppress(OSError, ValueError):
        quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else inf
    return inf
