"""Every bundled model on the usual test sets: python -m benchmarks.quality FOLDER [--sheets DIR] [--json FILE]

FOLDER holds the sets, as in SETS below; those that are missing are left out and said to be. Writes
benchmarks/quality.md, with the input (or bicubic) and published figures beside each; with --sheets also PNG sheets of
crops of scikit-image's free pictures, a row a picture: before, after, truth. `--weights FILE` measures a file of one's
own instead of the bundled models.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import irestore
from benchmarks.phone import as_by_a_phone
from benchmarks.sheets import write_sheet
from irestore import weights
from irestore.batch.chain import Step
from irestore.batch.restorer import Restorer
from irestore.evaluate import Row, Trial, couples, mean, measure, read
from irestore.planning import Settings
from irestore.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Set:
    """A test set with the damage it is for, and what others reach on it (PSNR in dB)."""

    title: str
    task: str
    scale: int = 1
    clean: str
    damaged: str | None = None
    sigma: float | None = None
    quality: int | None = None
    phone: bool = False  # the damaged picture is damaged again, as by a small phone: see `as_by_a_phone`
    published: dict[str, float] = field(default_factory=dict)

    @property
    def trial(self) -> Trial:
        """How it is measured."""
        return Trial(task=self.task, scale=self.scale, sigma=self.sigma, quality=self.quality)


def _sr(name: str, scale: int, fsrcnn: float, carn: float, light: float) -> Set:
    published = {"FSRCNN": fsrcnn, "CARN": carn, "SwinIR-light": light}
    clean, damaged = f"{name}/HR_x{scale}", f"{name}/LR_x{scale}"
    return Set(title=f"{name} x{scale}", task="sr", scale=scale, clean=clean, damaged=damaged, published=published)


SETS = (
    _sr("Set5", 2, 37.00, 37.76, 38.14),
    _sr("Set14", 2, 32.63, 33.52, 33.86),
    _sr("Set5", 3, 33.16, 34.29, 34.62),
    _sr("Set14", 3, 29.43, 30.29, 30.54),
    _sr("Set5", 4, 30.71, 32.13, 32.44),
    _sr("Set14", 4, 27.59, 28.60, 28.77),
    *(Set(title=f"Set14 x{scale}, as by a phone", task="sr", scale=scale, clean=f"Set14/HR_x{scale}",
          damaged=f"Set14/LR_x{scale}", phone=True) for scale in (2, 4)),
    Set(title="CBSD68_24, as by a phone", task="restore", clean="CBSD68_24", damaged="CBSD68_24", phone=True),
    Set(title="CBSD68_24, sigma 15", task="denoise", clean="CBSD68_24", sigma=15),
    Set(title="CBSD68_24, sigma 25", task="denoise", clean="CBSD68_24", sigma=25,
        published={"CBM3D*": 30.71, "SwinIR*": 31.78}),
    Set(title="CBSD68_24, sigma 50", task="denoise", clean="CBSD68_24", sigma=50,
        published={"CBM3D*": 27.38, "SwinIR*": 28.56}),
    Set(title="Classic5, quality 10", task="dejpeg", clean="Classic5", quality=10,
        published={"ARCNN": 29.03, "SwinIR": 30.27}),
    Set(title="Classic5, quality 40", task="dejpeg", clean="Classic5", quality=40,
        published={"ARCNN": 33.34, "SwinIR": 34.52}),
    Set(title="CBSD68_24, quality 10 (colour)", task="dejpeg", clean="CBSD68_24", quality=10),
    Set(title="REDS, 320x180", task="deblur", clean="REDS_320x180_20/sharp", damaged="REDS_320x180_20/blur"),
    Set(title="Rain100H, 20 pictures", task="derain", clean="Rain100H_20/clean", damaged="Rain100H_20/rainy"),
    *(Set(title="Set14 as it is (harm)", task=task, clean="Set14/HR_x2", damaged="Set14/HR_x2")
      for task in TASKS if not TASKS[task].enlarges),
)  # fmt: skip

NOTES = """
PSNR in dB and SSIM, means over the pictures, as `irestore eval` computes them: sr, derain and colour JPEG on Y of
BT.601 (sr without a border of as many pixels as the scale), denoise and deblur on RGB, grey pictures as they are.
"before" is bicubic enlargement (MATLAB's) for sr, else the damaged picture in 8 bits. In the rows "as it is (harm)"
nothing is wrong with the picture, and "after" tells how far the model moves it. "As by a phone": the small picture is
blurred by a disc of 1 pixel, gets Gaussian noise of sigma 5, and is stored as JPEG of quality 60 with halved chroma.

Published figures, PSNR: sr from the papers on FSRCNN (ECCV 2016), CARN (ECCV 2018) and SwinIR (ICCVW 2021); noise and
JPEG from the paper on SwinIR. Those marked * are for all 68 pictures of CBSD68, of which CBSD68_24 is a part, so they
only show the order of magnitude. Papers that read the one grey picture of Set14 as colour have 0.09 dB more there.
"""


@dataclass(frozen=True)
class Result:
    """One model on one set."""

    model: str
    parameters: int
    title: str
    pictures: int
    mean: Row
    published: dict[str, float]


def entries(files: list[Path]) -> list[weights.Entry]:
    """The models to measure: the files given, or all bundled ones."""
    return [weights.from_file(path) for path in files] or [entry for entry in weights.entries() if entry.bundled]


def restorer_of(entry: weights.Entry) -> tuple[Restorer, int]:
    """The loaded model, and how many parameters it has."""
    model = weights.load(entry, offline=True)
    restorer = Restorer({Step(entry.task, entry.scale): model}, Settings())
    return restorer, sum(p.numel() for p in model.parameters())  # type: ignore[arg-type]


def results(entry: weights.Entry, bench: Path, limit: int | None) -> Iterator[Result]:
    """The model on every set for its task and scale that is there."""
    restorer, parameters = restorer_of(entry)
    for each in SETS:
        if (each.task, each.scale) != (entry.task, entry.scale):
            continue
        if not (bench / each.clean).is_dir():
            print(f"{bench / each.clean}: not there, so {each.title} is left out", file=sys.stderr)
            continue
        trial, damaged = each.trial, bench / each.damaged if each.damaged else None
        found = couples(trial, bench / each.clean, damaged)[:limit]
        cases = (read(trial, *couple) for couple in found)
        cases = (
            (case._replace(damaged=as_by_a_phone(case.damaged, case.name)) for case in cases) if each.phone else cases
        )
        rows = [measure(trial, case, restorer) for case in cases]
        yield Result(entry.name, parameters, each.title, len(rows), mean(rows), each.published)


def table(found: list[Result]) -> str:
    """The results in Markdown."""
    head = "| model | set | pictures | before | after | gain | published |\n|---|---|--:|--:|--:|--:|---|"
    lines = []
    for each in found:
        before, after = each.mean.baseline, each.mean.restored
        gain = f"{after.psnr - before.psnr:+.2f}" if math.isfinite(before.psnr) else ""
        others = ", ".join(f"{name} {value:.2f}" for name, value in each.published.items())
        first = f"{before.psnr:.2f} / {before.ssim:.4f}" if math.isfinite(before.psnr) else "equal"
        last = f"{after.psnr:.2f} / {after.ssim:.4f}"
        cells = (f"`{each.model}`", each.title, each.pictures, first, last, gain, others)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    sizes = ", ".join(f"`{name}` {count:,}" for name, count in {each.model: each.parameters for each in found}.items())
    return "\n".join([head, *lines]) + f"\n\nParameters: {sizes}.\n"


def tell(manifest: Path, entry: weights.Entry, found: list[Result]) -> None:
    """Writes the figure that stands for a model into its table: of the first set that others are measured on too, or,
    for a model for lossy pictures, of the first of its own."""
    from training.export import put

    row = next((each for each in found if bool(each.published) != (entry.sources == "lossy")), found[0])
    before, after = row.mean.baseline.psnr, row.mean.restored.psnr
    tables = tomllib.loads(manifest.read_text(encoding="utf-8"))["model"]
    own = next(table for table in tables if table["name"] == entry.name)
    put(own | {"quality": f"{row.title}: {after:.2f} dB ({after - before:+.2f})"}, manifest)


def as_json(result: Result) -> dict[str, object]:
    """The result; null stands for the infinite PSNR of equal pictures."""
    before, after = (
        {"psnr": score.psnr if math.isfinite(score.psnr) else None, "ssim": score.ssim}
        for score in (result.mean.baseline, result.mean.restored)
    )
    return {"model": result.model, "set": result.title, "pictures": result.pictures, "before": before, "after": after}


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints each result as it comes, and writes the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bench", type=Path, help="folder of the test sets")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--sheets", type=Path, help="folder for sheets of crops, one a model")
    parser.add_argument("--weights", type=Path, action="append", default=[], help="measure this file; may be repeated")
    parser.add_argument("--limit", type=int, help="only the first pictures of each set")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--manifest", type=Path, help="write each model's first figure into this file")
    options = parser.parse_args(arguments)
    found: list[Result] = []
    text = ""
    for entry in entries(options.weights):
        for each in results(entry, options.bench, options.limit):
            found.append(each)
            before, after = each.mean.baseline.psnr, each.mean.restored.psnr
            print(f"{each.model:16} {each.title:32} {before:7.3f} -> {after:7.3f}", flush=True)
        if options.manifest:
            tell(options.manifest, entry, [each for each in found if each.model == entry.name])
        if options.sheets:
            path = options.sheets / f"{entry.name}.png"
            write_sheet(path, entry, restorer_of(entry)[0])
            text += f"\n`{entry.name}`: before, after, truth\n\n![{entry.name}]({_link(path, options.out)})\n"
    head = f"# Quality\n\nMade by `python -m benchmarks.quality`, irestore {irestore.__version__}.\n\n"
    options.out.write_text(head + table(found) + NOTES + text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps([as_json(each) for each in found], indent=1) + "\n", encoding="utf-8")


def _link(path: Path, page: Path) -> str:
    """The path of a file as a link on the page."""
    return Path(os.path.relpath(path, page.parent)).as_posix()


if __name__ == "__main__":
    main()
