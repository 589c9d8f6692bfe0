"""Peak memory of the full HEART x4 (random weights, float32), by picture size, tile and storage.

Each case runs in a process of its own (Linux): python -m benchmarks.memory [--json FILE]. The peak resident size is reset
after the network is built; "above" is the peak less the size at that moment, "in all" the whole process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

CASES = [(256, "64", None), (256, "off", None), (512, "64", None), (512, "auto", None), (512, "64", 512), (512, "auto", 512)]


def resident(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (peak) of this process."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def measure(size: int, tile: str, budget_mib: int | None) -> dict[str, object]:
    """One case in this process."""
    import torch

    from irestore import models
    from irestore.runner import Settings, cost, restore

    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = models.build("heart", {"upscale": 4}).eval()
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    settings = Settings(
        tile=int(tile) if tile.isdigit() else tile,  # type: ignore[arg-type]
        max_memory=budget_mib * 2**20 if budget_mib else None,
    )
    plan = cost(model, size, size, settings)
    restore(model, image[:, :, :64, :64], settings)  # the libraries' own first-use allocations
    Path("/proc/self/clear_refs").write_text("5")
    loaded, start = resident("VmRSS"), time.monotonic()
    out = restore(model, image, settings)
    peak = resident("VmHWM")
    return {
        "size": size,
        "tile": tile,
        "budget_mib": budget_mib,
        "plan": f"{plan.tile} {plan.storage}",
        "planned_mib": round(plan.bytes / 2**20),
        "above_mib": round((peak - loaded) / 2**20),
        "in_all_mib": round(peak / 2**20),
        "seconds": round(time.monotonic() - start, 1),
        "pixels_sha256": hashlib.sha256((out * 255).round().byte().numpy().tobytes()).hexdigest()[:16],
    }


def main() -> None:
    """Runs all cases and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs=3, metavar=("SIZE", "TILE", "MIB"), help="one case in this process")
    options = parser.parse_args()
    if options.case:
        size, tile, budget = options.case
        print(json.dumps(measure(int(size), tile, int(budget) or None)))
        return
    rows = []
    for size, tile, budget in CASES:
        command = [sys.executable, "-m", "benchmarks.memory", "--case", str(size), tile, str(budget or 0)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
