"""Draws how held-out PSNR grew with the hours of training: python -m training.plot LOG... --out curve.svg"""

from __future__ import annotations

import argparse
import html
import json
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 360, 56  # of the drawing, pixels
COLOURS = ("#1f6feb", "#d1570a", "#1a7f37", "#8250df", "#bf3989", "#57606a", "#9a6700")
Points = list[tuple[float, float]]


def curve(log: Path) -> Points:
    """(hours, PSNR in dB on held-out pictures) of every validation in a run's log."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [(line["seconds"] / 3600, line.get("psnr_y", line.get("psnr"))) for line in lines if "progress" in line]


def svg(curves: dict[str, Points]) -> str:
    """The curves with axes and names. Raises ValueError where there is no point."""
    points = [point for each in curves.values() for point in each]
    if not points:
        raise ValueError("the logs hold no validation")
    right = max(hours for hours, _ in points) or 1.0
    low, high = (f(score for _, score in points) for f in (min, max))
    high = max(high, low + 0.1)

    def place(hours: float, score: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * hours / right
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (score - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    box = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    for i in range(5):
        score, hours = low + (high - low) * i / 4, right * i / 4
        for text, at, anchor in (
            (f"{score:.2f}", place(0, score), "end"),
            (f"{hours:.1f}", place(hours, low), "middle"),
        ):
            x, y = map(float, at.split(","))
            x, y = (x - 6, y + 4) if anchor == "end" else (x, y + 18)
            parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')
        parts.append(f'<path d="M{place(0, score)} L{place(right, score)}" stroke="#d0d7de"/>')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">hours of training on one CPU core</text>'
    )
    parts.append(f'<text x="{MARGIN}" y="{MARGIN - 24}">PSNR of held-out pictures, dB</text>')
    for i, (name, each) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(place(*point) for point in each)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        legend = f'x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN - 12 - 18 * i}" text-anchor="end" fill="{colour}"'
        parts.append(f"<text {legend}>{html.escape(name)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("logs", type=Path, nargs="+", help="log.jsonl of runs, each named as its file")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.out.write_text(svg({log.stem: curve(log) for log in options.logs}), encoding="utf-8")


if __name__ == "__main__":
    main()
