"""A run: stages overlap in bounded memory, every picture stands or falls on its own, a stop keeps what is computed."""

import errno
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CONFIG, results, size_of, write_picture

from irestore import images, models
from irestore.batch import files
from irestore.batch.inputs import find
from irestore.batch.plan import Item, Request, plan
from irestore.batch.queues import ClosedError, Pipe
from irestore.batch.report import Outcome, Report, Totals, duration, one_line
from irestore.batch.restorer import Restorer
from irestore.batch.run import RunOptions, run
from irestore.errors import OutOfMemoryError, ReadError, RestoreError, WriteError
from irestore.runner import Settings, cost


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Doubler:
    """A network that repeats every pixel twice each way, and remembers what it was given."""

    name = "doubler"

    def __init__(
        self, at_once: int = 1, fail: Callable[[images.Picture], None] = lambda _: None, lanes: int = 1
    ) -> None:
        self.at_once = at_once
        self.lanes = lanes
        self.entered = 0
        self.fail = fail
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, pictures: Sequence[images.Picture], progress: Callable[[float], None]) -> list[images.Picture]:
        self.calls.append([(picture.height, picture.width) for picture in pictures])
        for picture in pictures:
            self.fail(picture)
        progress(0.5)
        progress(1.0)
        return [picture.replaced(picture.pixels.repeat(2, 0).repeat(2, 1), None) for picture in pictures]

    def enter_lane(self) -> None:
        self.entered += 1

    def beside(self, height: int, width: int) -> bool:
        return self.lanes > 1 and height < 100

    def padded(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 8) * 8, -(-width // 8) * 8

    def together(self, height: int, width: int) -> int:
        return self.at_once

    def peak_bytes(self) -> int:
        return 1


def items(*names: str, frames: Any = "error", **request: Any) -> tuple[Item, ...]:
    asked = {"task": "sr", "scale": 2, "model": "doubler", "output": "out/", "load": images.LoadOptions(frames=frames)}
    return plan(Request(**(asked | request)), find(names, recursive=False)).items


def ran(todo: Sequence[Item], restorer: Any, records: io.StringIO | None = None, **options: Any) -> Report:
    report = Report(total_pixels=sum(item.pixels for item in todo), records=records, progress=False)
    try:
        run(todo, restorer, report, RunOptions(**options))
    finally:
        report.close()
    return report


def pictures(count: int, size: tuple[int, int] = (6, 9)) -> list[str]:
    return [write_picture(Path(f"{number}.png"), size).name for number in range(count)]


# --- the stages


def test_every_picture_becomes_its_result() -> None:
    names = pictures(5)
    report = ran(items(*names), Doubler())
    assert (report.totals.done, report.totals.failed, report.totals.pixels) == (5, 0, 5 * 54)
    for name in names:
        expected = np.asarray(Image.open(name)).repeat(2, 0).repeat(2, 1)
        assert np.array_equal(np.asarray(Image.open(f"out/{Path(name).stem}_x2.png")), expected)


def test_reading_computing_and_writing_happen_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stages that only wait, n pictures take one stage each and a start, not three stages each."""
    names = pictures(8)
    nap, load, save = 0.1, images.load, images.save
    monkeypatch.setattr(files.images, "load", lambda *a: (time.sleep(nap), load(*a))[1], raising=False)
    monkeypatch.setattr(files.images, "save", lambda *a: (time.sleep(nap), save(*a))[1], raising=False)
    todo = items(*names)
    began = time.perf_counter()
    report = ran(todo, Doubler(fail=lambda _: time.sleep(nap)))
    seconds = time.perf_counter() - began
    assert report.totals.done == 8
    assert seconds < 8 * 3 * nap * 0.7, "one after the other it would be 2.4 s; overlapping it is 1.0 s"
    assert report.totals.busy > 0.6


def test_no_more_is_decoded_ahead_than_the_bound_allows() -> None:
    """While the first picture is computed, what lies ready fits the bound, and the reader waits with one more."""
    names = pictures(20, (16, 16))
    picture_bytes = 16 * 16 * 3 * 4
    decoded: list[int] = []
    seen: list[int] = []

    def read_count(_: images.Picture) -> None:
        if not seen:
            time.sleep(0.5)
        seen.append(len(decoded))

    def counted(source: Any, options: Any, load: Any = images.load) -> images.Picture:
        decoded.append(1)
        picture: images.Picture = load(source, options)
        return picture

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.images, "load", counted, raising=False)
        ran(items(*names), Doubler(fail=read_count), waiting_bytes=3 * picture_bytes)
    assert seen[0] == 1 + 3 + 1
    assert len(decoded) == 20


def test_pictures_of_one_padded_size_are_restored_together_in_order() -> None:
    for name, size in (("a", (6, 9)), ("b", (8, 16)), ("c", (7, 10)), ("d", (9, 9)), ("e", (6, 9))):
        write_picture(Path(f"{name}.png"), size)
    todo = items(*(f"{name}.png" for name in "abcde"))
    started = threading.Event()

    class Slow(Doubler):
        def together(self, height: int, width: int) -> int:
            if not started.is_set():  # let the reader fill the queue, so that what can be grouped is there
                started.set()
                time.sleep(0.3)
            return super().together(height, width)

    network = Slow(at_once=2)
    assert ran(todo, network).totals.done == 5
    assert network.calls == [[(6, 9), (8, 16)], [(7, 10)], [(9, 9)], [(6, 9)]]
    assert size_of(Path("out/d_x2.png")) == (18, 18)


def test_frames_of_an_animation_go_through_one_by_one_into_one_file() -> None:
    shades = [Image.new("RGB", (9, 6), (shade, 0, 0)) for shade in (0, 80, 160, 240)]
    shades[0].save("moving.webp", save_all=True, append_images=shades[1:], duration=[10, 20, 30, 40], lossless=True)
    write_picture(Path("still.png"))
    todo = items("moving.webp", "still.png", frames="all")
    report = ran(todo, Doubler(), load=images.LoadOptions(frames="all"), waiting_bytes=1)
    assert report.totals.done == 2
    with Image.open("out/moving_x2.webp") as image:
        assert (image.n_frames, image.size) == (4, (18, 12))


# --- failures


def test_a_picture_that_fails_is_named_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    names = pictures(4)
    todo = items(*names)
    Path("1.png").write_bytes(b"damaged")
    Path("2.png").unlink()
    report = ran(todo, Doubler())
    assert (report.totals.done, report.totals.failed, report.totals.exit_code) == (2, 2, 1)
    said = capsys.readouterr().err
    assert "1.png" in said
    assert "2.png: no such file" in said
    assert sorted(results(Path("out"))) == ["0_x2.png", "3_x2.png"]


def test_a_picture_that_changes_after_the_plan_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    names = pictures(3)
    todo = items(*names)
    write_picture(Path("1.png"), (30, 30))
    assert ran(todo, Doubler()).totals.failed == 1
    assert "1.png: has changed" in capsys.readouterr().err


def test_a_network_error_fails_only_its_picture_even_in_a_batch() -> None:
    names = pictures(6)

    def fail(picture: images.Picture) -> None:
        if np.array_equal(picture.pixels, images.load("3.png").pixels):
            raise RestoreError("no")

    report = ran(items(*names), Doubler(at_once=4, fail=fail))
    assert (report.totals.done, report.totals.failed) == (5, 1)
    assert "3_x2.png" not in results(Path("out"))


def test_running_out_of_memory_fails_only_its_picture(capsys: pytest.CaptureFixture[str]) -> None:
    names = pictures(2)
    errors = [MemoryError()]

    def fail(_: images.Picture) -> None:
        if errors:
            raise errors.pop()

    assert ran(items(*names), Doubler(fail=fail)).totals.failed == 1
    assert "0.png: out of memory" in capsys.readouterr().err


def test_a_frame_that_fails_leaves_no_file_and_the_rest_goes_on() -> None:
    shades = [Image.new("RGB", (9, 6), (shade, 0, 0)) for shade in (0, 80, 160, 240)]
    shades[0].save("moving.webp", save_all=True, append_images=shades[1:], duration=10, lossless=True)
    write_picture(Path("still.png"))
    seen: list[int] = []

    def fail(_: images.Picture) -> None:
        seen.append(1)
        if len(seen) == 3:
            raise RestoreError("no")

    report = ran(
        items("moving.webp", "still.png", frames="all"), Doubler(fail=fail), load=images.LoadOptions(frames="all")
    )
    assert (report.totals.done, report.totals.failed) == (1, 1)
    assert list(results(Path("out"))) == ["still_x2.png"]


def test_what_is_not_finite_is_never_written(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Doubler):
        def __call__(
            self, pictures: Sequence[images.Picture], progress: Callable[[float], None]
        ) -> list[images.Picture]:
            return [picture.replaced(np.full((4, 4, 3), np.nan, np.float32), None) for picture in pictures]

    assert ran(items(*pictures(1)), Broken()).totals.failed == 1
    assert results(Path("out")) == {}


def test_fail_fast_stops_at_the_first_failure() -> None:
    names = pictures(30)
    todo = items(*names)
    Path("0.png").write_bytes(b"damaged")
    report = ran(todo, Doubler(fail=lambda _: time.sleep(0.01)), fail_fast=True)
    assert report.totals.failed == 1
    assert report.totals.done < 29


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    names = pictures(40)
    save = images.save
    written: list[Path] = []

    def filling(picture: images.Picture, path: Path, options: Any) -> tuple[str, ...]:
        if len(written) == 3:
            raise WriteError(f"{path}: cannot be written") from OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return save(picture, path, options)

    monkeypatch.setattr(files.images, "save", filling, raising=False)
    network = Doubler(fail=lambda _: time.sleep(0.02))
    with pytest.raises(WriteError, match="the disk is full"):
        ran(items(*names), network)
    assert sorted(results(Path("out"))) == sorted(path.name for path in written)
    assert len(network.calls) < 40


def test_an_error_that_nobody_foresaw_ends_the_run_and_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    for place in ("load", "save"):
        with monkeypatch.context() as patch:
            patch.setattr(files.images, place, broken, raising=False)
            with pytest.raises(ZeroDivisionError):
                ran(items(*pictures(5), overwrite=True), Doubler())


def animation(name: str, frames: int) -> str:
    shades = [Image.new("RGB", (9, 6), (20 * number, 0, 0)) for number in range(frames)]
    shades[0].save(name, save_all=True, append_images=shades[1:], duration=10, lossless=True)
    return name


@pytest.mark.parametrize("place", ["save_frames", "report"])
def test_a_writer_that_dies_does_not_leave_an_animation_waiting_for_it(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        time.sleep(0.1)
        raise ZeroDivisionError

    todo = items(*pictures(1), animation("moving.webp", 12), frames="all")
    if place == "report":
        monkeypatch.setattr(Report, "add", broken)
    else:
        monkeypatch.setattr(files.images, place, broken, raising=False)
    with pytest.raises(ZeroDivisionError):
        ran(todo, Doubler(), load=images.LoadOptions(frames="all"), waiting_bytes=1)


def test_an_unforeseen_error_of_the_reader_keeps_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    load, save = images.load, images.save
    todo = items(*pictures(6))

    def broken(path: Path, options: Any) -> images.Picture:
        if path.name == "4.png":
            time.sleep(0.1)
            raise ZeroDivisionError
        return load(path, options)

    monkeypatch.setattr(files.images, "load", broken, raising=False)
    monkeypatch.setattr(files.images, "save", lambda *a: (time.sleep(0.1), save(*a))[1], raising=False)
    network = Doubler()
    with pytest.raises(ZeroDivisionError):
        ran(todo, network)
    assert len(results(Path("out"))) == len(network.calls)


def test_nothing_is_begun_after_the_failure_that_stops_the_run() -> None:
    """The small ones are on lanes, the second of them fails; a large one has been decoded already."""
    names = [*pictures(4), write_picture(Path("large.png"), (120, 9)).name, *pictures(9)[4:]]
    todo = items(*names)
    bad = images.load("1.png").pixels.tobytes()

    def work(picture: images.Picture) -> None:
        time.sleep(0.1)
        if picture.pixels.tobytes() == bad:
            raise RestoreError("no")

    network = Watched(4, work)
    assert ran(todo, network, fail_fast=True).totals.failed == 1
    assert not any(120 in met for met in network.met)
    assert "3_x2.png" in results(Path("out")), "what was on the lanes is kept"


def test_a_picture_that_cannot_be_decoded_is_told_at_once() -> None:
    todo = items(*pictures(30))
    for number in range(1, 29):
        Path(f"{number}.png").write_bytes(b"damaged")
    report = ran(todo, Doubler(lanes=4), fail_fast=True)
    assert (report.totals.done, report.totals.failed) == (1, 1)


@pytest.mark.parametrize("lanes", [1, 3])
def test_an_animation_that_a_stop_cuts_short_fails_and_leaves_no_file(lanes: int) -> None:
    todo = items(*pictures(1), animation("moving.webp", 12), frames="all")
    seen: list[int] = []

    def work(_: images.Picture) -> None:
        seen.append(1)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    records = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        ran(todo, Watched(lanes, work), records, load=images.LoadOptions(frames="all"))
    told = {record["input"]: record for record in map(json.loads, records.getvalue().splitlines())}
    assert told["0.png"]["status"] == "done"
    assert told["moving.webp"]["error"].endswith("stopped before its last frame")
    assert list(results(Path("out"))) == ["0_x2.png"]


# --- stops


def test_a_stop_writes_what_is_computed_and_ends_its_threads() -> None:
    names = pictures(30)
    count = threading.active_count()
    seen: list[int] = []

    def stop(_: images.Picture) -> None:
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(items(*names), Doubler(fail=stop))
    assert sorted(results(Path("out"))) == sorted(f"{number}_x2.png" for number in range(5))
    assert threading.active_count() == count


def stopping_while_writing(monkeypatch: pytest.MonkeyPatch, signals: int) -> list[int]:
    """While the first result is being written, and all others are computed, that many Ctrl-C arrive."""
    save, sent = images.save, []

    def slow(picture: images.Picture, path: Path, options: Any) -> tuple[str, ...]:
        (path.parent / f".irestore-{os.getpid()}-0123.part").write_bytes(b"half")
        (path.parent / ".irestore-1-0123.part").write_bytes(b"another process's")
        time.sleep(0.3)
        while len(sent) < signals:
            os.kill(os.getpid(), signal.SIGINT)
            sent.append(1)
            time.sleep(0.3)
        (path.parent / f".irestore-{os.getpid()}-0123.part").unlink(missing_ok=True)
        return save(picture, path, options)

    monkeypatch.setattr(files.images, "save", slow, raising=False)
    return sent


def test_a_stop_while_results_are_written_waits_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = items(*pictures(4))
    stopping_while_writing(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        ran(todo, Doubler(), waiting_bytes=2**30)
    written = [name for name in results(Path("out")) if name.endswith(".png")]
    assert written == [f"{number}_x2.png" for number in range(4)]


def test_a_second_stop_leaves_nothing_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = items(*pictures(4))
    stopping_while_writing(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        ran(todo, Doubler(), waiting_bytes=2**30)
    assert list(results(Path("out"))) == [".irestore-1-0123.part"]
    time.sleep(0.7)  # until the writer's thread has seen that nobody waits for it


def test_a_stop_while_a_batch_is_handed_on_writes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is slower than the network, so the interrupt comes while the calling thread waits for it."""
    todo = items(*pictures(6))
    stopping_while_writing(monkeypatch, 1)
    network = Doubler(at_once=6)
    network.together = lambda *_: (time.sleep(0.3), 6)[1]  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        ran(todo, network, waiting_bytes=4000)
    assert network.calls == [[(6, 9)] * 6]
    assert sum(name.endswith(".png") for name in results(Path("out"))) == 6


# --- lanes


class Watched(Doubler):
    """Counts how many pictures are computed at the same time."""

    def __init__(self, lanes: int, work: Callable[[images.Picture], None] = lambda _: time.sleep(0.03)) -> None:
        super().__init__(fail=self.watch, lanes=lanes)
        self.work = work
        self.lock = threading.Lock()
        self.now: list[int] = []  # heights of the pictures that are being computed
        self.met: list[list[int]] = []

    def watch(self, picture: images.Picture) -> None:
        with self.lock:
            self.now.append(picture.height)
            self.met.append(list(self.now))
        try:
            self.work(picture)
        finally:
            with self.lock:
                self.now.remove(picture.height)


def test_small_pictures_are_computed_side_by_side_and_their_time_counts_once() -> None:
    todo = items(*pictures(24))
    network = Watched(3)
    report = ran(todo, network)
    assert report.totals.done == 24
    assert max(map(len, network.met)) == 3
    assert network.entered == 3
    assert report.totals.busy <= 1


def test_a_large_picture_has_the_machine_to_itself() -> None:
    sizes = [(6, 9)] * 5 + [(120, 9)] + [(6, 9)] * 5 + [(130, 9)] * 2 + [(6, 9)]
    names = [write_picture(Path(f"{number:02}.png"), size).name for number, size in enumerate(sizes)]
    network = Watched(3)
    assert ran(items(*names), network).totals.done == len(sizes)
    assert max(map(len, network.met)) > 1
    assert all(len(met) == 1 for met in network.met if max(met) >= 100)


def test_without_lanes_pictures_have_the_machine_to_themselves() -> None:
    threads: list[str] = []
    network = Watched(3, lambda _: threads.append(threading.current_thread().name))
    assert ran(items(*pictures(3)), network, lanes=False).totals.done == 3
    assert threads == ["MainThread"] * 3


def test_no_more_wait_to_be_delivered_than_two_a_lane() -> None:
    """The first picture holds up all that came after it: the others are computed only as far ahead as may be."""
    todo = items(*pictures(30))
    release = threading.Event()
    begun: list[float] = []

    def work(picture: images.Picture) -> None:
        first = np.array_equal(picture.pixels, images.load("1.png").pixels)
        begun.append(1)
        if first:
            assert release.wait(30)

    def let_go() -> None:
        time.sleep(0.5)
        seen.append(len(begun))
        release.set()

    seen: list[int] = []
    timer = threading.Thread(target=let_go)
    timer.start()
    network = Watched(2, work)
    network.together = lambda *_: (time.sleep(0.2), 1)[1]  # type: ignore[method-assign]
    assert ran(todo, network).totals.done == 30
    timer.join()
    assert seen[0] <= 1 + 4


def test_frames_of_an_animation_keep_their_order_on_lanes() -> None:
    shades = [Image.new("RGB", (9, 6), (shade, 0, 0)) for shade in range(0, 240, 20)]
    shades[0].save("moving.webp", save_all=True, append_images=shades[1:], duration=10, lossless=True)
    network = Watched(4, lambda picture: time.sleep(0.04 * (1 - float(picture.pixels[0, 0, 0]))))
    todo = items("moving.webp", *pictures(3), frames="all")
    assert ran(todo, network, load=images.LoadOptions(frames="all")).totals.done == 4
    assert max(map(len, network.met)) > 1
    with Image.open("out/moving_x2.webp") as image:
        for number, shade in enumerate(range(0, 240, 20)):
            image.seek(number)
            assert np.asarray(image.convert("RGB"))[0, 0, 0] == shade


@pytest.mark.parametrize("error", [RestoreError("no"), MemoryError()])
def test_a_failure_on_a_lane_is_that_picture_s_own(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {images.load(name).pixels.tobytes() for name in pictures(20)[3:9:5]}

    def work(picture: images.Picture) -> None:
        time.sleep(0.01)
        if picture.pixels.tobytes() in bad:
            raise error

    todo = items(*pictures(20))
    report = ran(todo, Watched(3, work))
    assert (report.totals.done, report.totals.failed) == (18, 2)
    assert report._shown_pixels == pytest.approx(sum(item.pixels for item in todo))
    said = capsys.readouterr().err
    assert "3.png" in said
    assert "8.png" in said
    assert not {"3_x2.png", "8_x2.png"} & results(Path("out")).keys()


def test_fail_fast_begins_nothing_more_on_the_lanes() -> None:
    network = Watched(2, lambda _: time.sleep(0.02))
    todo = items(*pictures(30))
    Path("0.png").write_bytes(b"damaged")
    report = ran(todo, network, fail_fast=True)
    assert report.totals.failed == 1
    assert len(network.met) < 15


def test_an_unforeseen_error_on_a_lane_ends_the_run() -> None:
    def work(_: images.Picture) -> None:
        time.sleep(0.01)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError

    count = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        ran(items(*pictures(9)), Watched(2, work))
    assert threading.active_count() == count


def test_a_stop_while_lanes_compute_writes_what_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calling thread is interrupted while it waits for the oldest picture, which never ends by itself."""
    todo = items(*pictures(12))
    through: list[int] = []
    count = threading.active_count()

    class Stuck(Doubler):
        def __call__(
            self, pictures: Sequence[images.Picture], progress: Callable[[float], None]
        ) -> list[images.Picture]:
            oldest = np.array_equal(pictures[0].pixels, images.load("1.png").pixels)
            deadline = time.monotonic() + 30
            while oldest and time.monotonic() < deadline:
                if len(through) == 4:
                    os.kill(os.getpid(), signal.SIGINT)
                    through.append(0)
                progress(0.5)  # this is where it hears that the run is over
                time.sleep(0.01)
            restored = super().__call__(pictures, progress)
            through.append(1)
            return restored

        def together(self, height: int, width: int) -> int:
            time.sleep(0.3)  # let the reader fill the queue
            return 1

    with pytest.raises(KeyboardInterrupt):
        ran(todo, Stuck(lanes=2))
    assert sorted(results(Path("out"))) == [f"{number}_x2.png" for number in (0, 2, 3, 4)]
    assert threading.active_count() == count


def test_lanes_give_the_same_files_as_one_picture_after_the_other() -> None:
    torch.manual_seed(0)
    model = models.build("heart", CONFIG).eval().requires_grad_(False)
    names = [write_picture(Path(f"{n}.png"), (17 + 3 * (n % 4), 20 + n % 3)).name for n in range(12)]
    threads = torch.get_num_threads()
    written = []
    for count in (1, 3):
        torch.set_num_threads(count)
        try:
            restorer = Restorer(model, "tiny", Settings())
            assert restorer.lanes == count
            assert ran(items(*names, output=f"out{count}/"), restorer).totals.done == 12
            assert torch.get_num_threads() == count, "what a lane sets is its own"
        finally:
            torch.set_num_threads(threads)
        written.append(results(Path(f"out{count}")))
    assert written[0] == written[1]


@pytest.mark.parametrize(("threads", "lanes", "each"), [(1, 1, 1), (2, 2, 1), (8, 8, 1), (12, 6, 2), (64, 8, 8)])
def test_threads_are_shared_out_among_at_most_eight_lanes(
    threads: int, lanes: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    restorer = Restorer(models.build("heart", CONFIG), "tiny", Settings())
    restorer.enter_lane()
    assert (restorer.lanes, taken) == (lanes, [each])


def test_only_small_pictures_that_fit_together_are_computed_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = models.build("heart", CONFIG)
    plenty = Restorer(model, "tiny", Settings(max_memory=2**40))
    assert plenty.beside(512, 512)
    assert not plenty.beside(512, 513)
    needed = cost(model, 64, 64, Settings()).bytes
    assert Restorer(model, "tiny", Settings(max_memory=4 * needed)).beside(64, 64)
    assert not Restorer(model, "tiny", Settings(max_memory=4 * needed - 1)).beside(64, 64)


# --- what is said


def test_records_are_one_json_object_a_picture() -> None:
    names = pictures(2)
    todo = items(*names)
    Path("1.png").unlink()
    records = io.StringIO()
    ran(todo, Doubler(), records)
    done, failed = sorted((json.loads(line) for line in records.getvalue().splitlines()), key=lambda r: str(r["input"]))
    assert (done["status"], done["input"], done["output"], done["model"]) == (
        "done",
        "0.png",
        "out/0_x2.png",
        "doubler",
    )
    assert done["input_size"] == {"height": 6, "width": 9}
    assert done["output_size"] == {"height": 12, "width": 18}
    assert done["seconds"] >= 0
    assert done["error"] is None
    assert failed["status"] == "failed"
    assert "no such file" in failed["error"]
    assert set(done) == set(failed)


def test_progress_ends_at_the_pixels_of_all_pictures_whatever_becomes_of_them() -> None:
    names = pictures(6)
    todo = items(*names)
    Path("1.png").unlink()
    failing = iter([True])

    def fail(_: images.Picture) -> None:
        if next(failing, False):
            raise RestoreError("no")

    report = ran(todo, Doubler(at_once=2, fail=fail))
    assert report.totals.failed in (1, 2)
    assert report._shown_pixels == pytest.approx(sum(item.pixels for item in todo))


def test_progress_of_a_frame_that_fails_in_a_file_that_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    load_frames = images.load_frames

    def cut(*arguments: Any) -> Any:
        for number, picture in enumerate(load_frames(*arguments)):
            if number == 4:
                raise ReadError("moving.webp: cut")
            yield picture

    monkeypatch.setattr(files.images, "load_frames", cut, raising=False)
    seen: list[int] = []

    def fail(_: images.Picture) -> None:
        seen.append(1)
        if len(seen) == 2:
            raise RestoreError("no")

    todo = items(animation("moving.webp", 10), *pictures(1), frames="all")
    report = ran(todo, Doubler(fail=fail), load=images.LoadOptions(frames="all"))
    assert (report.totals.done, report.totals.failed) == (1, 1)
    assert report._shown_pixels == pytest.approx(sum(item.pixels for item in todo))


def test_names_cannot_break_lines_or_terminals() -> None:
    assert one_line("a\nb\x1b[31m\udcff ü€") == r"a\nb\x1b[31m\udcff ü€"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "60 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_well(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_totals_of_ranks_add_up_while_their_times_overlap() -> None:
    both = Totals(2, 1, 0, 100, 3.0, 4.0) + Totals(1, 0, 1, 50, 4.0, 5.0)
    assert (both.done, both.skipped, both.failed, both.pixels, both.seconds, both.ranks) == (3, 1, 1, 150, 5.0, 2)
    assert both.busy == pytest.approx(0.7)
    assert "2 ranks" in both.summary()
    assert (both.exit_code, Totals(1).exit_code) == (1, 0)


def test_only_errors_are_told_when_quiet_and_everything_when_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome("done", Path("a"), Path("b"), seconds=1.0), Outcome("skipped", Path("c"), reason="why"),
                Outcome("failed", Path("d"), reason="d: bad")]  # fmt: skip
    for verbosity, lines in ((-1, 1), (0, 1), (1, 3)):
        report = Report(verbosity=verbosity, progress=False)
        for outcome in outcomes:
            report.add(outcome)
        report.close()
        assert len(capsys.readouterr().err.splitlines()) == lines


# --- the queue


def test_a_pipe_holds_its_bound_or_one_thing_and_keeps_the_order() -> None:
    pipe: Pipe[int] = Pipe(10)
    pipe.put(0, 25)
    taken: list[int] = []
    thread = threading.Thread(target=lambda: taken.extend(pipe))
    thread.start()
    for number in range(1, 50):
        pipe.put(number, number % 12)
    pipe.finish()
    thread.join()
    assert taken == list(range(50))
    assert pipe.take() is None


def test_a_closed_pipe_wakes_both_sides() -> None:
    pipe: Pipe[int] = Pipe(1)
    pipe.put(0, 1)
    raised: list[BaseException] = []

    def put() -> None:
        try:
            pipe.put(1, 1)
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    pipe.close()
    thread.join()
    assert len(raised) == 1
    assert pipe.take() is None


def test_a_pipe_that_finishes_with_an_error_raises_it_after_the_last_thing() -> None:
    pipe: Pipe[int] = Pipe(9)
    pipe.put(1, 1)
    pipe.finish(ValueError("cut"))
    assert pipe.take() == 1
    with pytest.raises(ValueError, match="cut"):
        pipe.take()


def test_more_is_taken_without_waiting_while_it_is_alike() -> None:
    pipe: Pipe[int] = Pipe(99)
    for number in (1, 3, 5, 7, 8, 9):
        pipe.put(number, 1)
    assert pipe.take() == 1
    assert pipe.take_more(2, lambda number: number % 2 == 1) == [3, 5]
    assert pipe.take_more(9, lambda number: number % 2 == 1) == [7]
    assert pipe.take_more(9, lambda number: number % 2 == 1) == []
    assert list(iter(pipe.take, 9)) == [8]


# --- the real network


def network(**config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build("heart", CONFIG | config).eval().requires_grad_(False)


def restorer(settings: Settings | None = None, alpha: Any = "resize", strength: float = 1.0, **config: Any) -> Restorer:
    return Restorer(network(**config), "tiny", settings or Settings(), alpha=alpha, strength=strength)


def nothing(_: float) -> None:
    """No progress wanted."""


def test_a_batch_gives_each_picture_what_it_gets_alone() -> None:
    """Sizes differ, padded sizes do not: padding is part of every statistic, so it must be each picture's own."""
    shown = [images.load(write_picture(Path(f"{h}x{w}.png"), (h, w))) for h, w in ((9, 10), (16, 16), (13, 9), (3, 16))]
    one = restorer()
    together = one(shown[:3], nothing)
    for picture, result in zip(shown, together, strict=False):
        (alone,) = one([picture], nothing)
        assert result.pixels.shape == (2 * picture.height, 2 * picture.width, 3)
        assert np.abs(result.pixels - alone.pixels).max() < 2e-6
    assert one.padded(9, 10) == one.padded(16, 16) == one.padded(13, 9) != one.padded(3, 16)


def test_a_cpu_takes_pictures_one_by_one() -> None:
    assert restorer().together(8, 8) == 1


def test_a_gpu_takes_as_many_as_it_holds_untiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The costs of the CPU stand in for a GPU's."""
    from irestore.runner import cost

    roomy = restorer(Settings(tile="off"))
    eight = cost(network(), 32, 32, Settings(tile="off"), batch=8).bytes
    tight = restorer(Settings(tile="off", max_memory=eight))
    tiled = restorer(Settings(tile=8))
    for each in (roomy, tight, tiled):
        monkeypatch.setattr(each, "_device", torch.device("cuda"))
    assert (roomy.together(32, 32), tight.together(32, 32), tiled.together(32, 32)) == (16, 8, 1)


def test_strength_blends_with_the_input() -> None:
    picture = images.load(write_picture(Path("a.png"), (9, 11)))
    full, half, none = (restorer(strength=s, upscale=1)([picture], nothing)[0].pixels for s in (1.0, 0.5, 0.0))
    assert np.array_equal(none, picture.pixels)
    assert np.allclose(half, (full + picture.pixels) / 2, atol=1e-6)
    assert np.abs(full - picture.pixels).max() > 0.01


@pytest.mark.parametrize(("alpha", "expected"), [("resize", True), ("restore", True), ("drop", False)])
def test_alpha_is_brought_to_size_or_dropped(alpha: str, expected: bool) -> None:
    picture = images.load(write_picture(Path("a.png"), (9, 11), "RGBA"))
    (result,) = restorer(alpha=alpha)([picture], nothing)
    assert (result.alpha is not None) == expected
    if result.alpha is not None:
        assert result.alpha.shape == (18, 22)
        assert result.alpha.dtype == np.float32


def test_grey_stays_grey() -> None:
    picture = images.load(write_picture(Path("g.png"), (9, 11), "L"))
    (result,) = restorer()([picture], nothing)
    images.save(result, "r.png")
    with Image.open("r.png") as image:
        assert (image.mode, image.size) == ("L", (22, 18))


def test_a_network_of_one_channel_takes_each_colour_on_its_own() -> None:
    picture = images.load(write_picture(Path("a.png"), (9, 11)))
    grey = restorer(in_chans=1, upscale=1)
    (result,) = grey([picture], nothing)
    for channel in range(3):
        plane = picture.pixels[..., channel : channel + 1].repeat(3, axis=2)
        (alone,) = grey([picture.replaced(plane, None)], nothing)
        assert np.abs(result.pixels[..., channel] - alone.pixels[..., 0]).max() < 2e-6


def test_memory_that_runs_out_beside_the_network_fails_only_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "lerp", full)
    restorer = Restorer(models.build("heart", CONFIG | {"upscale": 1}), "tiny", Settings(), strength=0.5)
    with pytest.raises(OutOfMemoryError, match="does not fit into memory"):
        restorer([images.load(pictures(1)[0])], lambda _: None)


def test_the_memory_of_a_network_of_one_channel_is_that_of_three_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = models.build("heart", CONFIG | {"in_chans": 1})
    needed = cost(model, 64, 64, Settings(), batch=3).bytes
    assert Restorer(model, "tiny", Settings(max_memory=4 * needed)).beside(64, 64)
    assert not Restorer(model, "tiny", Settings(max_memory=4 * needed - 1)).beside(64, 64)
