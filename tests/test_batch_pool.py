"""Several devices of one host: whichever is free computes, and the results are those of one."""

import io
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import CONFIG, results, write_picture, write_weights

from irestore import images, models
from irestore.batch.chain import Size, Step
from irestore.batch.files import RunOptions
from irestore.batch.inputs import Item, find
from irestore.batch.plan import Request, plan
from irestore.batch.pool import Pool
from irestore.batch.report import Report
from irestore.batch.restorer import Restorer
from irestore.batch.run import run
from irestore.cli import main
from irestore.errors import RestoreError
from irestore.models.network import Network
from irestore.planning import Settings

STEP = Step("sr", 2)
LOAD = images.LoadOptions(frames="all")


@pytest.fixture
def threads() -> Any:
    """Two threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def pictures(folder: Path, count: int, size: tuple[int, int] = (12, 10)) -> Path:
    for number in range(count):
        write_picture(folder / f"{number:02}.png", size)
    return folder


def items(folder: Path, out: Path) -> tuple[Item, ...]:
    request = Request(tasks=("sr",), size=Size(factor=2), models={STEP: "tiny"}, output=f"{out}/", load=LOAD)
    return plan(request, find([folder], recursive=True)).items


class Watched(Restorer):
    """Calls `meet` with its own number and each picture before it computes."""

    def __init__(self, number: int, meet: Callable[[int], None] = lambda _: None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = models.build("heart", CONFIG).eval().requires_grad_(False)
        super().__init__({STEP: model}, Settings())
        self.number, self.meet, self.made = number, meet, 0

    def __call__(
        self, pictures: Sequence[images.Picture], progress: Callable[[float], None], steps: Any = None
    ) -> list[images.Picture]:
        self.meet(self.number)
        self.made += len(pictures)
        return super().__call__(pictures, progress, steps)


def ran(todo: Sequence[Item], restorers: Sequence[Restorer], **options: Any) -> tuple[Report, list[dict[str, Any]]]:
    records = io.StringIO()
    report = Report(records=records, progress=False)
    try:
        run(todo, Pool(restorers), report, RunOptions(load=LOAD, **options))
    finally:
        report.close()
    return report, [json.loads(line) for line in records.getvalue().splitlines()]


def test_two_devices_give_the_bytes_of_one_and_make_every_picture_once(tmp_path: Path, threads: None) -> None:
    """Small and large pictures, and an animation."""
    folder = pictures(tmp_path / "in", 12)
    write_picture(folder / "large.png", (520, 520))
    shades = [Image.new("RGB", (9, 6), (shade, 0, 0)) for shade in range(0, 240, 20)]
    shades[0].save(folder / "moving.webp", save_all=True, append_images=shades[1:], duration=10, lossless=True)
    made = []
    for count in (1, 2):
        out = tmp_path / f"out{count}"
        report, records = ran(items(folder, out), [Watched(number) for number in range(count)])
        assert (report.totals.done, report.totals.failed) == (14, 0)
        assert len({record["input"] for record in records}) == len(records) == 14
        made.append(results(out))
    assert made[0] == made[1]


def test_both_devices_compute_at_once_and_a_slow_one_does_not_hold_pictures_back(tmp_path: Path) -> None:
    """One device gets stuck at its first picture until the other has done all the rest."""
    over, met = threading.Event(), [0, 0]

    def meet(number: int) -> None:
        met[number] += 1
        if number == 0:
            assert over.wait(30)
        elif met[1] == 7:
            over.set()

    todo = items(pictures(tmp_path / "in", 8, (520, 520)), tmp_path / "out")  # too large to be computed side by side
    report, _ = ran(todo, [Watched(number, meet) for number in range(2)])
    assert (report.totals.done, met) == (8, [1, 7])


def test_a_failure_on_one_device_stops_both_where_that_is_asked(tmp_path: Path) -> None:
    def meet(number: int) -> None:
        if number == 1:
            raise RestoreError("no")

    restorers = [Watched(number, meet) for number in range(2)]
    report, _ = ran(items(pictures(tmp_path / "in", 30), tmp_path / "out"), restorers, fail_fast=True)
    assert report.totals.failed == 1
    assert report.totals.done < 25


def test_a_stop_ends_both_devices_and_keeps_what_is_computed(tmp_path: Path) -> None:
    restorers: list[Watched] = []

    def meet(_: int) -> None:
        if sum(each.made for each in restorers) > 6:
            raise KeyboardInterrupt

    restorers += [Watched(number, meet) for number in range(2)]
    with pytest.raises(KeyboardInterrupt):
        ran(items(pictures(tmp_path / "in", 40), tmp_path / "out"), restorers)
    assert 4 <= len(results(tmp_path / "out")) < 15
    assert "worker" not in [thread.name for thread in threading.enumerate()]


def test_devices_are_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, weights = pictures(tmp_path / "in", 6), write_weights(tmp_path / "tiny.safetensors")
    command = ["sr", "--weights", str(weights), "-r", str(folder), "-v", "-o"]
    for device, told in (("cpu", "cpu"), ("cpu,cpu", "cpu, cpu")):
        assert main([*command, str(tmp_path / device), "-d", device]) == 0
        assert f"irestore: tiny (0.0 M parameters) on {told}, threads: " in capsys.readouterr().err
    assert results(tmp_path / "cpu") == results(tmp_path / "cpu,cpu")
    if not torch.cuda.is_available():
        assert main([*command, str(tmp_path / "no"), "-d", "cuda:all"]) == 2
        assert "use --device cpu" in capsys.readouterr().err


def test_weights_are_halved_once_for_all_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.dtype] = []

    def halved(network: Network, dtype: torch.dtype) -> Network:
        made.append(dtype)
        return halve(network, dtype)

    halve = Network.halved
    monkeypatch.setattr(Network, "halved", halved)
    network = models.build("heart", CONFIG).eval()
    restorer = Restorer({STEP: network}, Settings(precision="bf16", ensemble=True))
    (tmp_path / "in").mkdir()
    todo = items(pictures(tmp_path / "in", 3), tmp_path / "out")
    run(todo, Pool([restorer]), Report(progress=False), RunOptions(load=LOAD))
    assert len(results(tmp_path / "out")) == 3
    assert made == [torch.bfloat16]
