"""`irestore eval`: PSNR and SSIM of a model on a set of pictures, beside those of doing nothing."""

import csv
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irestore import weights
from irestore.batch.chain import Step
from irestore.cli.choice import candidates, check_fits, obtain
from irestore.cli.options import DEFAULT_SCALE, Computing, Model, build, declared, option
from irestore.errors import UsageError, one_line, say
from irestore.tasks import TASKS

if TYPE_CHECKING:
    from irestore.evaluate import Score

LUMA = [name for name, task in TASKS.items() if task.on_luma]
RGB = [name for name, task in TASKS.items() if not task.on_luma]
HELP = f"""Measure a model: PSNR and SSIM on a folder of clean pictures, as the papers on the task do.

The table has a line for each picture and their mean, for the restored picture and for the baseline: bicubic enlargement
for sr, the damaged picture itself for the other tasks. {", ".join(LUMA)} are measured on Y of BT.601 (sr without a
border of SCALE pixels), {", ".join(RGB)} on RGB, grey pictures as they are.
"""


def _own(*short: str, help: str, **attributes: Any) -> Any:
    # Not from the environment: IRESTORE_QUALITY and IRESTORE_JSON are set for restoring.
    return option(*short, help=help, allow_from_autoenv=False, **attributes)


FOLDER = click.Path(file_okay=False, path_type=Path)


# fmt: off
@dataclass(frozen=True)
class Measuring:
    """What is measured on what."""

    task: str
    hr: Path = _own(type=FOLDER, metavar="DIR", required=True, help="The clean pictures.")  # noqa: RUF009
    lr: Path | None = _own(type=FOLDER, metavar="DIR",  # noqa: RUF009
        help="The damaged pictures, paired by name.  [default: made from the clean ones: for sr by MATLAB's bicubic, "
        "for denoise with --sigma, for dejpeg with --quality]")
    scale: int | None = _own("-x", type=click.IntRange(2, 4),
        help=f"For sr: how many times larger.  [default: {DEFAULT_SCALE}, or what --weights is made for]")
    sigma: float | None = _own(type=click.FloatRange(0, 255), metavar="N",
        help="For denoise: add Gaussian noise of N 8-bit levels, not rounded, not clipped, always the same.")
    quality: int | None = _own(type=click.IntRange(1, 100), metavar="N", help="For dejpeg: compress to JPEG quality N.")
    grey: bool = _own(is_flag=True, default=False,
        help="Turn colour pictures into their Y first, as papers on grey pictures do.")
    limit: int | None = _own(type=click.IntRange(min=1), metavar="N", help="Only the first N pictures.")
    json: bool = _own(is_flag=True, default=False, help="One JSON object instead of the table.")
    csv: bool = _own(is_flag=True, default=False, help="CSV instead of the table.")
# fmt: on


def _evaluate(**values: Any) -> None:
    """Options -> pairs of pictures -> the model -> a line for each picture as soon as it is measured."""
    chosen, model, computing = build(Measuring, values), build(Model, values), build(Computing, values)
    if chosen.json and chosen.csv:
        raise UsageError("--json and --csv both need standard output; choose one")
    if chosen.scale and not TASKS[chosen.task].enlarges:
        raise UsageError(f"--scale is for sr; {chosen.task} keeps the size")
    wanted = candidates(model, computing, chosen.task, chosen.scale)

    from irestore import evaluate
    from irestore.batch.restorer import Restorer

    trial = evaluate.Trial(task=chosen.task, sigma=chosen.sigma, quality=chosen.quality, grey=chosen.grey)
    couples = evaluate.couples(trial, chosen.hr, chosen.lr)[: chosen.limit]  # before anything is downloaded
    entry, path, _ = obtain(model, wanted)
    trial = replace(trial, scale=check_fits(entry, chosen.task, chosen.scale).scale)
    network = weights.read(entry, path, computing.begin()[0])
    restorer = Restorer({Step(trial.task, trial.scale): network}, computing.settings())
    rows = evaluate.measure_all(trial, couples, restorer)
    say(f"{entry.name}: PSNR in dB and SSIM, on {trial.compares}")
    if chosen.json:
        *pictures, mean = (
            {"name": row.name, "baseline": _figures(row.baseline), "restored": _figures(row.restored)} for row in rows
        )
        head = {"task": trial.task, "scale": trial.scale, "model": entry.name, "baseline": trial.baseline}
        click.echo(json.dumps(head | {"measure": trial.compares, "pictures": pictures, "mean": mean}, indent=1))
    elif chosen.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["name", "baseline_psnr", "baseline_ssim", "psnr", "ssim"])
        writer.writerows([row.name, *row.baseline, *row.restored] for row in rows)
    else:
        title = f"{one_line(entry.name.upper()):>12}"
        click.echo(f"{'NAME':24} {trial.baseline.upper():>8} {'SSIM':>7}  {title} {'SSIM':>7}")
        for row in rows:
            before, after = row.baseline, row.restored
            line = (
                f"{row.name:24} {before.psnr:8.3f} {before.ssim:7.4f}  {after.psnr:{len(title)}.3f} {after.ssim:7.4f}"
            )
            click.echo(one_line(line))


def _figures(score: "Score") -> dict[str, float | None]:
    """As JSON has them, where null stands for the infinite PSNR of equal pictures."""
    return {"psnr": score.psnr if math.isfinite(score.psnr) else None, "ssim": score.ssim}


eval = click.Command(
    "eval",
    {"auto_envvar_prefix": "IRESTORE"},
    callback=_evaluate,
    params=[
        click.Argument(["task"], type=click.Choice(list(TASKS))),
        *(each for section in (Measuring, Model, Computing) for each in declared(section)),
    ],
    help=HELP,
)
