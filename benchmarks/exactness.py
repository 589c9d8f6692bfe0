"""What tools lose that cut pictures into crops: python -m benchmarks.exactness PHOTO... [--json FILE] [--seam FILE]

Photographs at several sizes are shrunk by 4 and enlarged by the same network three ways: as a whole, in overlapping
crops that each have statistics of their own, as most tools do, and by irestore's tiles. For each there is PSNR-Y to the
photograph, PSNR to the whole picture's result, and the largest step across a border of two crops: the difference from
the whole picture's result on its one side less that on its other side, in levels of 255. Measurements that are in the
JSON file already are not made again. --seam draws the difference, on a free picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

import irestore
from irestore import degrade, images, metrics, weights
from irestore.images.resize import reduced
from irestore.models.network import Network
from irestore.planning import Settings
from irestore.runner import restore
from irestore.tiling import Box

Pixels = NDArray[np.uint8]
MEGAPIXELS = (0.25, 1, 4, 16)  # of the photographs, which the network is to give again
CROPS = (48, 96, 192, 256)  # sides, in pixels of the small picture
OVERLAP = 16  # of neighbouring crops, in the same pixels
TILE = 64  # of irestore
SEAM_CROP, AMPLIFIED = 128, 8  # in the drawing: side of crops, times that differences are amplified


def in_crops(network: Network, image: Tensor, side: int) -> Tensor:
    """The result of overlapping crops, each restored as if it were a picture, and cut in the middle of the overlap."""
    height, width = image.shape[2:]
    scale, margin = network.scale, OVERLAP // 2
    result = image.new_empty(*image.shape[:2], height * scale, width * scale)
    for owned in Box(0, 0, height, width).cut(side - OVERLAP, side - OVERLAP):
        seen = owned.grow(margin).clip(height, width)
        rows, columns = seen.within(Box(0, 0, 0, 0))
        crop = restore(network, image[:, :, rows, columns], Settings(tile="off"))
        rows, columns = owned.scaled(scale).within(seen.scaled(scale))
        part = owned.scaled(scale)
        result[:, :, part.top : part.bottom, part.left : part.right] = crop[:, :, rows, columns]
    return result


def largest_step(difference: Tensor, period: int) -> float:
    """The greatest change of a difference (B, C, H, W) across borders that lie `period` pixels apart; 0 without one."""
    borders = [(axis, torch.arange(period, max(difference.shape[axis], period), period)) for axis in (2, 3)]
    steps = [
        difference.index_select(axis, at) - difference.index_select(axis, at - 1) for axis, at in borders if len(at)
    ]
    return max((float(step.abs().max()) for step in steps), default=0.0)


def photograph(path: Path, megapixels: float) -> Pixels:
    """The photograph at about that size, sides multiples of 4; as it is where it is no larger."""
    picture = images.load(path)
    share = min(1.0, (megapixels * 1e6 / (picture.height * picture.width)) ** 0.5)
    small = reduced(picture, round(picture.height * share), round(picture.width * share))
    return degrade.cut_to_multiple(degrade.to_bytes(small.pixels * np.float32(255)), 4)


def measured(
    network: Network, truth: Pixels, crops: Sequence[int], known: set[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """The figures of each way to restore the picture that is not known yet, from the quickest on."""
    image = as_tensor(degrade.shrink(truth, network.scale))
    whole = restore(network, image, Settings())
    yield "whole", {"psnr_y": psnr_y(whole, truth)}
    ways = {"irestore": TILE} | {f"crops of {side}": side for side in crops if side < max(image.shape[2:])}
    for way, side in reversed(ways.items()):
        if way not in known:
            exact = way == "irestore"
            result = restore(network, image, Settings(tile=side)) if exact else in_crops(network, image, side)
            difference = (result - whole).double() * 255
            period = network.scale * (side - (0 if exact else OVERLAP))
            yield (
                way,
                {
                    "psnr_y": psnr_y(result, truth),
                    "psnr_to_whole": 20 * float(torch.log10(255 / difference.square().mean().sqrt())),
                    "largest": float(difference.abs().max()),
                    "step": largest_step(difference, period),
                },
            )


def table(found: dict[str, Any]) -> str:
    """A row a way, a column a size: mean PSNR-Y less the whole's; lowest PSNR to the whole; largest step."""
    sizes = sorted({size for rows in found.values() for size in rows}, key=float)
    lines = [["", *(f"{size} MP" for size in sizes)], ["---", *["---:"] * len(sizes)]]
    for way in ("irestore", *(f"crops of {side}" for side in CROPS)):
        cells = []
        for size in sizes:
            both = [(rows[size]["whole"], rows[size][way]) for rows in found.values() if way in rows.get(size, {})]
            gain = fmean([figures["psnr_y"] - whole["psnr_y"] for whole, figures in both]) if both else 0.0
            near, step = ([figures[kind] for _, figures in both] for kind in ("psnr_to_whole", "step"))
            cells.append(f"{gain:+.2f} / {min(near):.0f} / {max(step):.2g} ({len(both)})" if both else "")
        lines.append([way, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) in 0..255 -> (1, 3, H, W) in 0..1."""
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]


def psnr_y(result: Tensor, truth: Pixels) -> float:
    """PSNR in dB on Y of the result as it would be saved, without a border of 4 pixels."""
    saved = degrade.to_bytes(result[0].permute(1, 2, 0).numpy() * 255)
    return metrics.psnr(metrics.luma(saved), metrics.luma(truth), border=4)


def seam(path: Path) -> None:
    """Draws what compact-derain makes, by crops (left) and by irestore's tiles (right), of a grainy sky, and below how
    far each is from the whole picture's result, amplified; grey is not at all. It takes some of the grain for rain.
    """
    network, sky = irestore.load("compact-derain", device="cpu"), data.rocket()[:288, 100:548]
    image = as_tensor(degrade.to_bytes(degrade.add_noise(sky.astype(np.float32), 15, np.random.default_rng(1))))
    whole = restore(network, image, Settings(tile="off"))
    results = [in_crops(network, image, SEAM_CROP), restore(network, image, Settings(tile=TILE))]
    differences = [(result - whole) * AMPLIFIED + 0.5 for result in results]
    steps = [largest_step((result - whole) * 255, SEAM_CROP - OVERLAP) for result in results]
    scores = [psnr_y(result, sky) for result in results]
    print(f"crops, irestore: steps of {steps} across borders, PSNR-Y {scores} dB")
    spaced = [[F.pad(each.clamp(0, 1), (0, 8, 0, 8), value=1) for each in row] for row in (results, differences)]
    sheet = torch.cat([torch.cat(row, 3) for row in spaced], 2)[0, :, :-8, :-8]
    picture = images.Picture(sheet.permute(1, 2, 0).contiguous().numpy(), None, grey=False, depth=8, format="jpeg")
    images.save(picture, path, images.SaveOptions(overwrite=True, quality=90))


def main() -> None:
    """Measures, writes after each picture, and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photographs", type=Path, nargs="*")
    parser.add_argument("--model", default="compact-x4")
    parser.add_argument("--megapixels", type=float, nargs="+", default=MEGAPIXELS)
    parser.add_argument("--crops", type=int, nargs="+", default=CROPS)
    parser.add_argument("--json", type=Path, help="written after each measurement; what is in it is not measured again")
    parser.add_argument("--seam", type=Path, metavar="FILE")
    options = parser.parse_args()
    network = irestore.load(options.model, device="cpu")
    kept: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    found, sha256 = kept.setdefault("photographs", {}), weights.find(options.model, weights.entries()).sha256
    if kept.setdefault("weights", sha256) != sha256:
        raise SystemExit(f"{options.json}: measured with other weights of {options.model}; give another file")
    if options.seam:
        seam(options.seam)
    for size in options.megapixels:
        for path in options.photographs:
            rows = found.setdefault(path.stem, {}).setdefault(f"{size:g}", {})
            if f"crops of {options.crops[0]}" in rows:
                continue
            for way, figures in measured(network, photograph(path, size), options.crops, set(rows)):
                rows[way] = figures
                print(f"{path.stem}, {size:g} MP, {way}: {figures}", flush=True)
                if options.json:
                    options.json.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
