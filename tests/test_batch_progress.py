"""Progress: what is left is true and steady, a log stays short, and a long run says so at its start."""

from itertools import pairwise
from pathlib import Path

import pytest

from irestore.batch import progress
from irestore.batch.progress import Progress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


def step(shown: Progress, clock: Clock, pixels: float, seconds: float = 0.5) -> None:
    clock.now += seconds
    shown.advance(pixels)
    shown.tick()


def test_the_time_left_is_true_steady_and_never_negative(clock: Clock) -> None:
    """Pictures of 5 s of which the pixels come in bursts; every fourth fails at once, which is no speed."""
    shown, told = Progress(100_000, 100, shown=False), []
    for number in range(100):
        if number % 4 == 3:
            shown.concluded += 1
            shown.advance(1000, computed=False)
            continue
        for burst in (0, 0, 0, 100, 0, 0, 0, 0, 0, 900):
            step(shown, clock, burst)
            told.append(shown.seconds_left)
    assert shown.seconds_left == 0
    true = [(len(told) - number) * 0.5 for number in range(1, len(told) + 1)]
    for guess, truth in list(zip(told, true, strict=True))[60:]:
        assert truth <= guess <= 1.6 * truth + 10  # that more of them will fail is not known
    assert max(abs(later - guess) for guess, later in pairwise(told[60:])) < 90
    step(shown, clock, 50)  # more than there is
    assert shown.seconds_left == 0
    shown.advance(-5000)  # a batch that is begun again, picture by picture
    shown.tick()
    assert shown.seconds_left > 0


def test_a_log_gets_a_line_every_half_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(1_000_000, 30, shown=True)
    shown.start()
    shown.concluded = 6
    shown.present(Path("n\nme.png"))
    for _ in range(200):
        step(shown, clock, 2500)
    shown.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"irestore: 7/30 n\\nme.png {share}, 0.005 MP/s, {left} left"
        for share, left in (("15%", "2 min 50 s"), ("30%", "2 min 20 s"), ("45%", "1 min 50 s"))
    ]


@pytest.mark.parametrize(("total", "told"), [(1e6, ["irestore: 200 s"]), (0.5e6, [])])
def test_a_long_run_says_so_once_as_soon_as_it_is_known(
    clock: Clock, capsys: pytest.CaptureFixture[str], total: float, told: list[str]
) -> None:
    shown = Progress(int(total), 1, shown=False, hint=lambda seconds: f"{seconds:.0f} s")
    for _ in range(40):
        step(shown, clock, 2500)
    assert capsys.readouterr().err.splitlines() == told
