"""The same picture in tiles of 64, of 128 and whole: python -m benchmarks.exactness PICTURE... [--json FILE]

Runs the installed command and counts the 8-bit values that differ from the whole-image run, and by how much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from irestore import images

TILES = ("64", "128", "auto")


def restored(picture: Path, tile: str, model: str, folder: Path) -> np.ndarray:
    """The 8-bit pixels that `irestore sr -x4 --tile TILE` writes."""
    target = folder / f"{picture.stem}_{tile}.png"
    command = ["sr", "-x4", "-m", model, "--tile", tile, "--device", "cpu", "-q", "-o", str(target), str(picture)]
    subprocess.run([sys.executable, "-m", "irestore", *command], check=True)
    return np.rint(images.load(target).pixels * 255).astype(np.int16)


def main() -> None:
    """Compares and prints a line for each picture and tile."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default="compact-x4")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for picture in options.pictures:
            whole = restored(picture, "off", options.model, Path(folder))
            for tile in TILES:
                difference = np.abs(restored(picture, tile, options.model, Path(folder)) - whole)
                row = {
                    "picture": picture.name,
                    "tile": tile,
                    "values": difference.size,
                    "different": int((difference > 0).sum()),
                    "largest": int(difference.max()),
                }
                rows.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
