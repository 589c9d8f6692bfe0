"""The model card of an exported network: what it is for, how it was made, how far it came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from irestore.tasks import TASKS


def card(entry: dict[str, Any], config: dict[str, Any], log: Path) -> str:
    """The card in Markdown, from the manifest's entry, the run's config and its log."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    begun = next(line for line in lines if "parameters" in line)
    last = [line for line in lines if "progress" in line][-1]
    score = "PSNR on Y" if "psnr_y" in last else "PSNR on RGB"
    does = TASKS[entry["task"]].does.format(scale=entry["scale"])
    rows = {
        "Use": f"`irestore {entry['task']}`: {does}. {entry['description']}",
        "Licence": entry["licence"],
        "Network": f"{entry['architecture']}, {entry['parameters']:,} parameters: {_inline(entry['config'])}",
        "Training data": f"{entry['training_data']}; {begun['pictures']} pictures, {begun['held_out']} held out",
        "Damage": _inline(config.get("degradation", {"name": "bicubic (MATLAB)"})),
        "Crops": f"{config['data']['batch']} of {config['data']['size']} pixels a step",
        "Training": f"{last['step']:,} steps, {last['seconds'] / 3600:.1f} h on {begun.get('device', 'cpu')}"
        + (f", from {begun['init']}" if "init" in begun else ""),
        "Schedule": _inline(config["train"]),
        "Held-out pictures": f"{score} {last.get('psnr_y', last.get('psnr')):.2f} dB",
        "File": f"`{entry['file']}`, {entry['size_bytes']:,} bytes, sha256 `{entry['sha256']}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"# {entry['name']}\n\n| | |\n|---|---|\n{table}\n\nMeasured on the usual sets: `benchmarks/quality.md`.\n"


def _inline(table: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items())
