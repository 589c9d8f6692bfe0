"""Draws how held-out PSNR grew with the hours of training: python -m training.plot LOG... --out curve.svg"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from irestore.plot import Panel, Points, svg


def curve(log: Path) -> Points:
    """(hours, PSNR in dB on held-out pictures) of every validation in a run's log."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [(line["seconds"] / 3600, line.get("psnr_y", line.get("psnr"))) for line in lines if "progress" in line]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("logs", type=Path, nargs="+", help="log.jsonl of runs, each named as its file")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    curves = {log.stem: curve(log) for log in options.logs}
    panel = Panel("PSNR of held-out pictures, dB", "hours of training on one CPU core", curves)
    options.out.write_text(svg([panel]), encoding="utf-8")


if __name__ == "__main__":
    main()
