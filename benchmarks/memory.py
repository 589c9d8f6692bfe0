"""Peak memory of the full HEART x4 (random weights, float32), by picture size, tile and storage.

Each case runs in a process of its own (Linux): python -m benchmarks.memory [--json FILE]. The peak resident size is
reset after the network is built; "above" is the peak less the size at that moment, "in all" the whole process;
"different" counts the 8-bit values that are not those of the first case of the same size.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = [(256, "64", 0), (256, "off", 0), (512, "64", 0), (512, "auto", 512)]  # picture, tile, budget in MiB or 0


def resident(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (peak) of this process."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def measure(size: int, tile: str, budget_mib: int, target: Path) -> dict[str, object]:
    """One case in this process; the picture goes to `target`."""
    import numpy as np
    import torch

    from irestore import models
    from irestore.planning import Settings, cost
    from irestore.runner import restore

    torch.manual_seed(0)
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
    peak, seconds = resident("VmHWM"), time.monotonic() - start
    np.save(target, (out * 255).round().byte().numpy())
    return {
        "size": size,
        "tile": tile,
        "budget_mib": budget_mib,
        "plan": f"{plan.tile} {plan.storage}",
        "planned_mib": round(plan.bytes / 2**20),
        "above_mib": round((peak - loaded) / 2**20),
        "in_all_mib": round(peak / 2**20),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Runs all cases and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs=4, metavar=("SIZE", "TILE", "MIB", "FILE"), help="one case in this process")
    options = parser.parse_args()
    if options.case:
        size, tile, budget, target = options.case
        print(json.dumps(measure(int(size), tile, int(budget), Path(target))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [run_apart(*case, Path(folder)) for case in CASES]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def run_apart(size: int, tile: str, budget: int, folder: Path) -> dict[str, object]:
    """One case in a process of its own, printed and compared with the first of its size."""
    import numpy as np

    target, first = folder / f"{size}_{tile}_{budget}.npy", folder / f"{size}.npy"
    command = [sys.executable, "-m", "benchmarks.memory", "--case", str(size), tile, str(budget), str(target)]
    row: dict[str, object] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if not first.exists():
        target.rename(first)
    else:
        difference = np.abs(np.load(target).astype(np.int16) - np.load(first))
        row |= {"different": int((difference > 0).sum()), "of": difference.size, "largest": int(difference.max())}
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
