"""Curves as SVG, for browsers and Markdown; needs no other library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 340  # of a panel, pixels
LEFT, RIGHT, TOP, BOTTOM = 72, 176, 40, 52  # margins; names of curves stand at the right
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#8250df", "#57606a", "#9a6700", "#bf3989")
LINE = 16  # pixels from one name to the next
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Curves over common axes: `up` says what is drawn, `across` against what; `log`: by powers of ten."""

    up: str
    across: str
    curves: Mapping[str, Points]
    log: bool = False


def svg(panels: Sequence[Panel]) -> str:
    """A drawing of panels, one below the other. Raises ValueError where one has no finite point."""
    box = f'viewBox="0 0 {WIDTH} {HEIGHT * len(panels)}"'
    drawn = [line for number, panel in enumerate(panels) for line in _drawn(panel, number * HEIGHT)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT * len(panels)}" fill="white"/>'
    return "\n".join([head, ground, *drawn, "</svg>"]) + "\n"


def _drawn(panel: Panel, down: int) -> Iterator[str]:
    """The elements of a panel whose top is `down`."""
    curves = {name: [p for p in points if _drawable(p, panel.log)] for name, points in panel.curves.items()}
    xs, ys = ([point[i] for points in curves.values() for point in points] for i in (0, 1))
    if not xs:
        raise ValueError(f"{panel.up}: there is nothing to draw")
    across = _Axis(xs, (LEFT, WIDTH - RIGHT))
    up = _Axis(ys, (down + HEIGHT - BOTTOM, down + TOP), panel.log)
    yield f'<text x="{LEFT}" y="{down + 24}" font-weight="bold">{escape(panel.up)}</text>'
    for value in up.ticks:
        y = up(value)
        yield f'<path d="M{LEFT},{y:.1f} H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.6g}</text>'
    for value in across.ticks:
        place = f'x="{across(value):.1f}" y="{down + HEIGHT - BOTTOM + 20}"'
        yield f'<text {place} text-anchor="middle">{value:,.6g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{down + HEIGHT - 10}" text-anchor="middle">{escape(panel.across)}</text>'
    ends = {name: up(points[-1][1]) for name, points in curves.items() if points}
    places = dict(zip(sorted(ends, key=ends.__getitem__), _apart(sorted(ends.values())), strict=True))
    for name, colour in zip(curves, COLOURS * len(curves), strict=False):
        if name in ends:
            line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curves[name])
            yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
            yield f'<text x="{WIDTH - RIGHT + 8}" y="{places[name] + 4:.1f}" fill="{colour}">{escape(name)}</text>'


def _drawable(point: tuple[float, float], log: bool) -> bool:
    return all(map(math.isfinite, point)) and (point[1] > 0 or not log)


def _apart(places: Sequence[float]) -> list[float]:
    """The sorted places, moved so that a line of text lies between any two."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LINE) if moved else place)
    excess = max(0.0, moved[-1] - places[-1]) / 2 if moved else 0.0
    return [place - excess for place in moved]


class _Axis:
    """Values to pixels, and the round values that are named."""

    def __init__(self, values: Sequence[float], pixels: tuple[float, float], log: bool = False) -> None:
        self.of = math.log10 if log else float
        low, high = self.of(min(values)), self.of(max(values))
        spare = 0.04 * (high - low) or 0.5
        self.low, self.high, self.pixels = low - spare, high + spare, pixels
        span = self.high - self.low
        unit = 10 ** math.floor(math.log10(span))
        step = next(unit * part for part in (0.2, 0.5, 1, 2) if span <= 6 * unit * part)
        if log and span < 2.5:
            self.ticks = [
                part * 10.0**i for i in range(math.floor(self.low), math.ceil(self.high)) for part in (1, 2, 5)
            ]
        elif log:
            self.ticks = [10.0**i for i in range(math.floor(self.low), math.ceil(self.high), max(1, round(step)))]
        else:
            self.ticks = [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        self.ticks = [value for value in self.ticks if self.low <= self.of(value) <= self.high]

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        start, end = self.pixels
        return start + (end - start) * (self.of(value) - self.low) / (self.high - self.low)
