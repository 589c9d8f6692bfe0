"""Trains configs one after another and exports each: python -m training.queue CONFIG... --data FOLDER --runs FOLDER

A run that was cut off goes on where it stopped; one that has ended is only exported. Everything that follows `--` is
given to training.train: `-- --device cuda --precision bf16 --compile`. With --release the exported files, cards and
tables of weights.toml of this repository are written, else files in RUNS/exported.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from training.export import main as export

HERE = Path(__file__).resolve().parent


def ended(run: Path) -> bool:
    """Whether the run's log says that its schedule is over."""
    log = run / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return any(json.loads(line).get("progress", 0) >= 1 for line in lines)


def release(run: Path, name: str, folder: Path | None) -> None:
    """Exports a run: into a folder, or (None) as a bundled model with its card, log and table of the manifest."""
    if folder is None:
        log = HERE / "logs" / f"{name}.jsonl"
        shutil.copyfile(run / "log.jsonl", log)
        places = [HERE.parent / "irestore/bundled", HERE / "cards", HERE.parent / "weights.toml"]
    else:
        folder.mkdir(parents=True, exist_ok=True)
        places = [folder, folder, folder / "weights.toml"]
        places[2].touch()
    out, card = places[0] / f"{name}.safetensors", places[1] / f"{name}.md"
    export([str(run), "--out", str(out), "--card", str(card), "--manifest", str(places[2])])


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    own, more = arguments, []
    if "--" in arguments:
        own, more = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures, searched recursively")
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs, each named as its config")
    parser.add_argument("--release", action="store_true", help="write into this repository")
    options = parser.parse_args(own)
    for config in options.configs:
        run = options.runs / config.stem
        if not ended(run):
            command = [sys.executable, "-m", "training.train", str(config), "--data", str(options.data)]
            subprocess.run([*command, "--out", str(run), *more], check=True)
        said = tomllib.loads(config.read_text(encoding="utf-8"))
        if "release" in said:  # else others begin from it
            release(run, said["release"]["name"], None if options.release else options.runs / "exported")


if __name__ == "__main__":
    main()
