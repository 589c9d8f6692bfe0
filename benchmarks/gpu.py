"""All that is worth knowing of a GPU, in less than 8 minutes: python -m benchmarks.gpu [--goldens DIR] [--out gpu]

Writes gpu.json and gpu.md. Each section (benchmarks/device.py) runs in a process and a time of its own, so one that
fails or hangs costs no other. `--device cpu --quick` rehearses it with tiny networks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import device
from benchmarks.device import Row, Run

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = {  # with the seconds that each may take
    "goldens": (device.goldens, 60),
    "exactness": (device.exactness, 70),
    "synchronisation": (device.synchronisation, 30),
    "speed": (device.speed, 170),
    "batch": (device.whole_batch, 90),
    "profile": (device.profile, 40),
}


def machine(where: torch.device) -> Row:
    """What computes."""
    told: Row = {"device": str(where), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if where.type == "cuda":
        found = torch.cuda.get_device_properties(where)
        told |= {"name": found.name, "memory_gib": round(found.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return told


def apart(name: str, arguments: list[str], seconds: int) -> Row:
    """A section in a process of its own: its rows, as many as there were in time, and what went wrong."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--section", name, *arguments]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            code = subprocess.run(command, stdout=out, stderr=err, cwd=ROOT, timeout=seconds).returncode
            error = f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            error = f"stopped after {seconds} s"
        out.seek(0), err.seek(0)
        rows = [json.loads(line) for line in out.read().splitlines() if line.startswith("{") and line.endswith("}")]
        told = err.read().strip().splitlines()[-6:]
    result: Row = {"seconds": round(time.monotonic() - began, 1), "rows": rows}
    return result | ({"error": " | ".join([error, *told])} if error else {})


def page(found: Row) -> str:
    """The results as Markdown: a table a section."""
    lines = ["# Measured by `python -m benchmarks.gpu`", "", ", ".join(f"{k} {v}" for k, v in found["machine"].items())]
    for name, section in found["sections"].items():
        rows = section["rows"]
        lines += ["", f"## {name} ({section['seconds']} s)", ""]
        if "error" in section:
            lines += [f"**Failed**: {section['error']}", ""]
        if columns := list(dict.fromkeys(key for row in rows for key in row)):
            lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
            lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Runs all sections, or one, and returns 1 where one has failed or a law does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu")
    parser.add_argument("--goldens", type=Path, help="a folder of goldens besides tests/data")
    parser.add_argument("--quick", action="store_true", help="tiny networks and pictures, to rehearse")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="where to write, without the suffix")
    parser.add_argument("--section", choices=SECTIONS)
    options = parser.parse_args()
    run = Run(torch.device(options.device), options.goldens and options.goldens.absolute(), options.quick)
    if options.section:
        for row in SECTIONS[options.section][0](run):
            print(json.dumps(row), flush=True)
        return 0
    arguments = ["--device", options.device, *(["--quick"] if run.quick else [])]
    arguments += ["--goldens", str(run.goldens)] if run.goldens else []
    found: Row = {"machine": machine(run.device), "sections": {}}
    for name, (_, seconds) in SECTIONS.items():
        found["sections"][name] = section = apart(name, arguments, seconds)
        print(
            f"{name:16} {len(section['rows'])} rows in {section['seconds']} s  {section.get('error', '')}", flush=True
        )
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(page(found))
    sections = found["sections"].values()
    return int(any("error" in each or not all(row.get("ok", True) for row in each["rows"]) for each in sections))


if __name__ == "__main__":
    sys.exit(main())
