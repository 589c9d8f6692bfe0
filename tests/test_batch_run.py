"""A run: stages overlap in bounded memory, every picture stands or falls on its own, a stop keeps what is computed."""

import errno
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CONFIG, results, size_of, write_picture

from irestore import images, models
from irestore.batch import files
from irestore.batch.chain import Size, Step
from irestore.batch.files import RunOptions
from irestore.batch.inputs import Item, find
from irestore.batch.plan import Request, plan
from irestore.batch.pool import Pool, batches
from irestore.batch.report import Outcome, Report, Totals
from irestore.batch.restorer import Restorer
from irestore.batch.run import run
from irestore.errors import OutOfMemoryError, ReadError, RestoreError, WriteError, duration, one_line
from irestore.planning import Settings, cost


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Doubler:
    """A network that repeats every pixel twice each way, and remembers what it was given."""

    device = torch.device("cpu")

    def __init__(
        self, at_once: int = 1, fail: Callable[[images.Picture], None] = lambda _: None, beside: int = 1
    ) -> None:
        self.at_once = at_once
        self.beside = beside
        self.workers = beside + 2
        self.large = threading.Semaphore(3)
        self.door, self.permits = threading.Lock(), threading.Semaphore(beside)
        self.fail = fail
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(
        self, pictures: Sequence[images.Picture], progress: Callable[[float], None], steps: Any
    ) -> list[images.Picture]:
        self.calls.append([(picture.height, picture.width) for picture in pictures])
        for picture in pictures:
            self.fail(picture)
        progress(0.5)
        progress(1.0)
        return [picture.replaced(picture.pixels.repeat(2, 0).repeat(2, 1), None) for picture in pictures]

    def side_by_side(self, height: int, width: int, steps: Any) -> int:
        return self.beside if height < 100 else 1

    @contextmanager
    def turn(self, side_by_side: int) -> Iterator["Doubler"]:
        with self.door:
            for _ in range(self.beside // side_by_side):
                self.permits.acquire()
        try:
            yield self
        finally:
            self.permits.release(self.beside // side_by_side)

    def padded(self, height: int, width: int, steps: Any) -> tuple[tuple[int, int]]:
        return ((-(-height // 8) * 8, -(-width // 8) * 8),)

    def batch_size(self, height: int, width: int, steps: Any) -> int:
        return self.at_once

    def peak_bytes(self) -> int:
        return 1


def loaded(model: Any, settings: Settings, **options: Any) -> Restorer:
    return Restorer({Step("sr", model.scale): model}, settings, **options)


def items(*names: str, frames: Any = "error", **request: Any) -> tuple[Item, ...]:
    asked = {"tasks": ("sr",), "size": Size(factor=2), "models": {Step("sr", 2): "doubler"}, "output": "out/"}
    asked |= {"load": images.LoadOptions(frames=frames)}
    return plan(Request(**(asked | request)), find(names, recursive=False)).items


def ran(todo: Sequence[Item], restorer: Any, records: io.StringIO | None = None, **options: Any) -> Report:
    report = Report(total_pixels=sum(item.pixels for item in todo), records=records, progress=False)
    try:
        run(todo, Pool([restorer]) if isinstance(restorer, Restorer) else restorer, report, RunOptions(**options))
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
    nap, load, save = 0.1, images.load_frames, images.save
    monkeypatch.setattr(files.images, "load_frames", lambda *a: (time.sleep(nap), load(*a))[1], raising=False)
    monkeypatch.setattr(files.images, "save", lambda *a: (time.sleep(nap), save(*a))[1], raising=False)
    todo = items(*names)
    began = time.perf_counter()
    report = ran(todo, Doubler(fail=lambda _: time.sleep(nap)))
    seconds = time.perf_counter() - began
    assert report.totals.done == 8
    assert seconds < 8 * 3 * nap * 0.7, "one after the other it would be 2.4 s; overlapping it is 1.0 s"
    assert report.totals.busy > 0.6


@pytest.mark.parametrize(("height", "most"), [(6, 5), (120, 3)])
def test_no_more_pictures_are_in_memory_than_there_are_workers_of_large_ones_only_three(height: int, most: int) -> None:
    """From the moment in which a picture is read to that in which its result is written."""
    names = pictures(20, (height, 9))
    inside: list[int] = [0]
    load, save = images.load_frames, images.save

    def loading(*arguments: Any) -> Iterator[images.Picture]:
        inside.append(inside[-1] + 1)
        return load(*arguments)

    def saving(*arguments: Any) -> tuple[str, ...]:
        time.sleep(0.01)
        notes = save(*arguments)
        inside.append(inside[-1] - 1)
        return notes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.images, "load_frames", loading, raising=False)
        patch.setattr(files.images, "save", saving, raising=False)
        network = Doubler(beside=3, fail=lambda _: time.sleep(0.01))
        assert ran(items(*names), network).totals.done == 20
    assert network.workers == 5
    assert max(inside) <= most


def test_pictures_of_one_padded_size_are_restored_together_whatever_lies_between_them() -> None:
    for name, size in (("a", (6, 9)), ("b", (8, 16)), ("c", (7, 10)), ("d", (9, 9)), ("e", (6, 9))):
        write_picture(Path(f"{name}.png"), size)
    animation("f.webp", 3)
    todo = items(*(f"{name}.png" for name in "abcde"), "f.webp", frames="all")
    network = Doubler(at_once=2)
    grouped = [[item.input.path.stem for item in batch] for batch in batches(todo, network)]  # type: ignore[arg-type]
    assert grouped == [["a", "b"], ["c", "e"], ["d"], ["f"]]
    records = io.StringIO()
    assert ran(todo, network, records, load=images.LoadOptions(frames="all")).totals.done == 6
    told = {record["input"]: record["output_size"] for record in map(json.loads, records.getvalue().splitlines())}
    assert (told["a.png"], told["b.png"]) == ({"height": 12, "width": 18}, {"height": 16, "width": 32})
    assert sorted(network.calls) == [
        [(6, 9)], [(6, 9), (6, 9)], [(6, 9), (8, 16)], [(7, 10), (6, 9)], [(9, 9)],
    ]  # fmt: skip
    assert size_of(Path("out/d_x2.png")) == (18, 18)
    expected = np.asarray(Image.open("e.png")).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(np.asarray(Image.open("out/e_x2.png")), expected)


def test_frames_of_an_animation_go_through_one_by_one_into_one_file() -> None:
    shades = [Image.new("RGB", (9, 6), (shade, 0, 0)) for shade in (0, 80, 160, 240)]
    shades[0].save("moving.webp", save_all=True, append_images=shades[1:], duration=[10, 20, 30, 40], lossless=True)
    write_picture(Path("still.png"))
    todo = items("moving.webp", "still.png", frames="all")
    report = ran(
        todo,
        Doubler(),
        load=images.LoadOptions(frames="all"),
    )
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
    assert ".png: out of memory" in capsys.readouterr().err


def test_a_frame_that_fails_leaves_no_file_and_the_rest_goes_on() -> None:
    shades = [Image.new("RGB", (9, 6), (shade, 0, 0)) for shade in (0, 80, 160, 240)]
    shades[0].save("moving.webp", save_all=True, append_images=shades[1:], duration=10, lossless=True)
    write_picture(Path("still.png"))

    def fail(picture: images.Picture) -> None:
        if np.array_equal(picture.pixels * 255, np.full((6, 9, 3), (160, 0, 0), np.float32)):
            raise RestoreError("no")

    report = ran(
        items("moving.webp", "still.png", frames="all"), Doubler(fail=fail), load=images.LoadOptions(frames="all")
    )
    assert (report.totals.done, report.totals.failed) == (1, 1)
    assert list(results(Path("out"))) == ["still_x2.png"]


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_file_that_appears_while_the_run_goes_on_is_kept_and_counted_as_skipped(at_once: int) -> None:
    """Of two runs over the same pictures, or of the user, whichever comes first."""
    todo = items(*pictures(4))

    def appear(picture: images.Picture) -> None:
        if np.array_equal(picture.pixels, images.load("2.png").pixels):
            Path("out/2_x2.png").write_bytes(b"mine")

    records = io.StringIO()
    report = ran(todo, Doubler(at_once, appear), records, save=images.SaveOptions(overwrite=False))
    assert (report.totals.done, report.totals.skipped, report.totals.failed) == (3, 1, 0)
    assert Path("out/2_x2.png").read_bytes() == b"mine"
    assert report._shown.pixels == pytest.approx(sum(item.pixels for item in todo))
    told = [json.loads(line) for line in records.getvalue().splitlines()]
    assert [(each["input"], each["reason"]) for each in told if each["status"] == "skipped"] == [
        ("2.png", "the output exists")
    ]


def test_every_note_of_the_reader_and_the_writer_reaches_the_user_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "CMYK without a CMYK profile; colours were converted by the plain formula"
    pages = [Image.new("CMYK", (9, 6), (shade, 0, 0, 0)) for shade in (0, 99, 200)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save("a.jpg")
    pages[1].save("b.jpg")
    save = images.save
    monkeypatch.setattr(files.images, "save", lambda *a: (*save(*a), "comment dropped", note), raising=False)
    todo = items("pages.tif", "a.jpg", "b.jpg", frames="all")
    ran(todo, Doubler(at_once=2), load=images.LoadOptions(frames="all"))
    said = capsys.readouterr().err.splitlines()
    expected = [f"irestore: {name}: {note}" for name in ("pages.tif", "a.jpg", "b.jpg")]
    assert sorted(said) == sorted([*expected, "irestore: a.jpg: comment dropped", "irestore: b.jpg: comment dropped"])


def test_an_input_that_has_become_a_pipe_fails_instead_of_waiting_for_ever() -> None:
    todo = items(*pictures(2))
    Path("1.png").unlink()
    os.mkfifo("1.png")
    report = ran(todo, Doubler())
    assert (report.totals.done, report.totals.failed) == (1, 1)


def test_what_is_not_finite_is_never_written(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Doubler):
        def __call__(
            self, pictures: Sequence[images.Picture], progress: Callable[[float], None], steps: Any
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

    for place in ("load_frames", "save"):
        with monkeypatch.context() as patch:
            patch.setattr(files.images, place, broken, raising=False)
            with pytest.raises(ZeroDivisionError):
                ran(items(*pictures(5), overwrite=True), Doubler())


def animation(name: str, frames: int) -> str:
    shades = [Image.new("RGB", (9, 6), (20 * number, 0, 0)) for number in range(frames)]
    shades[0].save(name, save_all=True, append_images=shades[1:], duration=10, lossless=True)
    return name


def test_an_error_of_the_report_ends_the_run_though_an_animation_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    todo = items(*pictures(1), animation("moving.webp", 12), frames="all")
    monkeypatch.setattr(Report, "add", broken)
    with pytest.raises(ZeroDivisionError):
        ran(todo, Doubler(), load=images.LoadOptions(frames="all"))


@pytest.mark.parametrize("place", ["load", "compute", "save"])
def test_an_unforeseen_error_fails_its_picture_and_the_rest_goes_on(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    todo = items(*pictures(9))
    load, save = images.load_frames, images.save
    bad = images.load("4.png").pixels.tobytes()

    def fail(where: str, picture: images.Picture) -> images.Picture:
        if where == place and picture.pixels.tobytes() == bad:
            raise RuntimeError("CUDA error: misaligned address\nmore")
        return picture

    enlarged = images.load("4.png").pixels.repeat(2, 0).repeat(2, 1).tobytes()
    bad = enlarged if place == "save" else bad
    monkeypatch.setattr(files.images, "load_frames", lambda *a: (fail("load", p) for p in load(*a)), raising=False)
    monkeypatch.setattr(files.images, "save", lambda p, *a: save(fail("save", p), *a), raising=False)
    report = ran(todo, Doubler(fail=lambda picture: fail("compute", picture) and None))
    assert (report.totals.done, report.totals.failed) == (8, 1)
    assert capsys.readouterr().err == ("irestore: 4.png: unexpected RuntimeError: CUDA error: misaligned address\n")


def test_unforeseen_errors_one_after_the_other_end_the_run() -> None:
    """A GPU that has failed fails every picture from then on."""
    names = pictures(40)

    def fail(_: images.Picture) -> None:
        time.sleep(0.01)
        if len(network.calls) > 10:
            raise RuntimeError("CUDA error: unspecified launch failure")

    network = Doubler(fail=fail)
    with pytest.raises(RuntimeError, match="launch failure"):
        ran(items(*names), network)
    assert len(results(Path("out"))) == 10
    assert len(network.calls) < 20


def test_nothing_is_begun_after_the_failure_that_stops_the_run() -> None:
    """Small ones are computed side by side, one of them fails; a large one has been decoded already."""
    names = [*pictures(4), write_picture(Path("large.png"), (120, 9)).name, *pictures(9)[4:]]
    todo = items(*names)
    bad = images.load("1.png").pixels.tobytes()
    begun: list[float] = []
    failed: list[float] = []

    def work(picture: images.Picture) -> None:
        begun.append(time.monotonic())
        time.sleep(0.1)
        if picture.pixels.tobytes() == bad:
            failed.append(time.monotonic())
            raise RestoreError("no")

    network = Watched(4, work)
    assert ran(todo, network, fail_fast=True).totals.failed == 1
    assert not any(moment > failed[0] + 0.05 for moment in begun)
    assert len(results(Path("out"))) == len(network.calls) - 1, "what was being computed is kept"


def test_a_picture_that_cannot_be_decoded_is_told_at_once() -> None:
    todo = items(*pictures(30))
    for number in range(1, 29):
        Path(f"{number}.png").write_bytes(b"damaged")
    report = ran(todo, Doubler(beside=4), fail_fast=True)
    assert report.totals.failed == 1
    assert report.totals.done <= 1


@pytest.mark.parametrize("beside", [1, 3])
def test_an_animation_that_a_stop_cuts_short_fails_and_leaves_no_file(beside: int) -> None:
    todo = items(*pictures(1), animation("moving.webp", 12), frames="all")
    seen: list[int] = []

    def work(_: images.Picture) -> None:
        seen.append(1)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    records = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        ran(todo, Watched(beside, work), records, load=images.LoadOptions(frames="all"))
    told = {record["input"]: record for record in map(json.loads, records.getvalue().splitlines())}
    assert told["0.png"]["status"] == "done"
    assert told["moving.webp"]["error"].endswith("stopped before its last frame")
    assert list(results(Path("out"))) == ["0_x2.png"]


# --- stops


def test_a_stop_writes_what_is_computed_and_ends_its_threads() -> None:
    names = pictures(30)
    seen: list[int] = []

    def stop(_: images.Picture) -> None:
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(items(*names), Doubler(fail=stop))
    assert len(results(Path("out"))) == 5
    assert "worker" not in [thread.name for thread in threading.enumerate()]


def stopping_while_writing(monkeypatch: pytest.MonkeyPatch, signals: int) -> None:
    """While results are being written, and no others are computed, that many Ctrl-C arrive."""
    save, first, over = images.save, threading.Lock(), threading.Event()

    def slow(picture: images.Picture, path: Path, options: Any) -> tuple[str, ...]:
        mine = path.parent / f".irestore-{os.getpid()}-{path.stem}.part"
        mine.write_bytes(b"half")
        (path.parent / ".irestore-1-0123.part").write_bytes(b"another process's")
        time.sleep(0.3)
        if first.acquire(blocking=False):
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)
            over.set()
        assert over.wait(10)
        mine.unlink(missing_ok=True)
        return save(picture, path, options)

    monkeypatch.setattr(files.images, "save", slow, raising=False)


def test_a_stop_while_results_are_written_waits_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = items(*pictures(9))
    stopping_while_writing(monkeypatch, 1)
    network = Doubler()
    with pytest.raises(KeyboardInterrupt):
        ran(todo, network)
    written = [name for name in results(Path("out")) if name.endswith(".png")]
    assert len(written) == len(network.calls) == network.workers


def test_a_second_stop_leaves_nothing_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = items(*pictures(4))
    stopping_while_writing(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        ran(todo, Doubler())
    assert list(results(Path("out"))) == [".irestore-1-0123.part"]
    deadline = time.monotonic() + 20
    while "worker" in [thread.name for thread in threading.enumerate()]:  # the threads that write come to their end
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stop_while_a_batch_is_written_writes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = items(*pictures(6))
    stopping_while_writing(monkeypatch, 1)
    network = Doubler(at_once=6)
    with pytest.raises(KeyboardInterrupt):
        ran(todo, network)
    assert network.calls == [[(6, 9)] * 6]
    assert sum(name.endswith(".png") for name in results(Path("out"))) == 6


# --- side by side


class Watched(Doubler):
    """Counts how many pictures are computed at the same time."""

    def __init__(self, beside: int, work: Callable[[images.Picture], None] = lambda _: time.sleep(0.03)) -> None:
        super().__init__(fail=self.watch, beside=beside)
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
    assert report.totals.busy <= 1


def test_a_large_picture_has_the_machine_to_itself() -> None:
    sizes = [(6, 9)] * 5 + [(120, 9)] + [(6, 9)] * 5 + [(130, 9)] * 2 + [(6, 9)]
    names = [write_picture(Path(f"{number:02}.png"), size).name for number, size in enumerate(sizes)]
    network = Watched(3)
    assert ran(items(*names), network).totals.done == len(sizes)
    assert max(map(len, network.met)) > 1
    assert all(len(met) == 1 for met in network.met if max(met) >= 100)


def test_pictures_have_the_machine_to_themselves_where_that_is_asked() -> None:
    network = Watched(3)
    assert ran(items(*pictures(5)), network, side_by_side=False).totals.done == 5
    assert all(len(met) == 1 for met in network.met)


def test_frames_of_an_animation_are_computed_side_by_side_and_keep_their_order() -> None:
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
def test_a_failure_beside_others_is_that_picture_s_own(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {images.load(name).pixels.tobytes() for name in pictures(20)[3:9:5]}

    def work(picture: images.Picture) -> None:
        time.sleep(0.01)
        if picture.pixels.tobytes() in bad:
            raise error

    todo = items(*pictures(20))
    report = ran(todo, Watched(3, work))
    assert (report.totals.done, report.totals.failed) == (18, 2)
    assert report._shown.pixels == pytest.approx(sum(item.pixels for item in todo))
    said = capsys.readouterr().err
    assert "3.png" in said
    assert "8.png" in said
    assert not {"3_x2.png", "8_x2.png"} & results(Path("out")).keys()


def test_fail_fast_begins_nothing_more_side_by_side() -> None:
    network = Watched(2, lambda _: time.sleep(0.02))
    todo = items(*pictures(30))
    Path("0.png").write_bytes(b"damaged")
    report = ran(todo, network, fail_fast=True)
    assert report.totals.failed == 1
    assert len(network.met) < 15


def test_an_unforeseen_error_of_every_picture_ends_the_run_and_its_threads() -> None:
    def work(_: images.Picture) -> None:
        time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ran(items(*pictures(9)), Watched(2, work))
    assert "worker" not in [thread.name for thread in threading.enumerate()]


def test_a_stop_while_pictures_are_computed_gives_those_up_and_writes_what_is_through() -> None:
    """One picture never ends by itself: it hears that the run is over when it tells how far it is."""
    todo = items(*pictures(12))
    through: list[int] = []

    class Stuck(Doubler):
        def __call__(
            self, pictures: Sequence[images.Picture], progress: Callable[[float], None], steps: Any
        ) -> list[images.Picture]:
            stuck = np.array_equal(pictures[0].pixels, images.load("1.png").pixels)
            deadline = time.monotonic() + 30
            while (stuck or len(through) >= 4) and time.monotonic() < deadline:
                if stuck and len(through) == 4:
                    os.kill(os.getpid(), signal.SIGINT)
                    through.append(0)
                progress(0.5)
                time.sleep(0.01)
            restored = super().__call__(pictures, progress, steps)
            through.append(1)
            return restored

    with pytest.raises(KeyboardInterrupt):
        ran(todo, Stuck(beside=2))
    made = sorted(results(Path("out")))
    assert len(made) == 4
    assert "1_x2.png" not in made
    assert "worker" not in [thread.name for thread in threading.enumerate()]


def test_side_by_side_gives_the_same_files_as_one_picture_after_the_other() -> None:
    torch.manual_seed(0)
    model = models.build("heart", CONFIG).eval().requires_grad_(False)
    names = [write_picture(Path(f"{n}.png"), (17 + 3 * (n % 4), 20 + n % 3)).name for n in range(12)]
    threads = torch.get_num_threads()
    written = []
    for count in (1, 3):
        torch.set_num_threads(count)
        try:
            restorer = loaded(model, Settings())
            assert restorer.side_by_side(17, 20) == count
            assert ran(items(*names, output=f"out{count}/"), restorer).totals.done == 12
            assert torch.get_num_threads() == count, "what a worker sets is its own"
        finally:
            torch.set_num_threads(threads)
        written.append(results(Path(f"out{count}")))
    assert written[0] == written[1]


@pytest.mark.parametrize(("threads", "beside", "each"), [(1, 1, 1), (2, 2, 1), (8, 8, 1), (12, 6, 2), (64, 8, 8)])
def test_threads_are_shared_out_among_at_most_eight_pictures(
    threads: int, beside: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    restorer = loaded(models.build("heart", CONFIG), Settings())
    for side_by_side in (restorer.side_by_side(8, 8), 1):
        with Pool([restorer]).turn(side_by_side):
            pass
    assert (restorer.side_by_side(8, 8), taken) == (beside, [each, threads])


def test_every_thread_computes_with_the_threads_that_its_picture_gets() -> None:
    """The number that torch keeps for a thread is set by the thread itself, and by no other that was faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pool = Pool([loaded(models.build("heart", CONFIG), Settings())])
        seen: list[tuple[int, int]] = []

        def work(number: int) -> None:
            for side_by_side in (2, 1, 2) if number % 2 else (1, 2, 1):
                with pool.turn(side_by_side):
                    torch.zeros(2**16).add_(1)  # where torch looks its number up
                    seen.append((side_by_side, torch.get_num_threads()))

        threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 24
    assert set(seen) == {(2, 1), (1, 2)}


def test_only_small_pictures_that_fit_together_are_computed_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = models.build("heart", CONFIG)
    plenty = loaded(model, Settings(max_memory=2**40))
    assert plenty.side_by_side(512, 512) == 2
    assert plenty.side_by_side(512, 513) == 1
    needed = cost(model, 64, 64, Settings()).bytes
    assert loaded(model, Settings(max_memory=4 * needed)).side_by_side(64, 64) == 2
    assert loaded(model, Settings(max_memory=4 * needed - 1)).side_by_side(64, 64) == 1


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
    assert report._shown.pixels == pytest.approx(sum(item.pixels for item in todo))


def test_progress_of_a_frame_that_fails_in_a_file_that_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    load_frames = images.load_frames

    def cut(*arguments: Any) -> Any:
        for number, picture in enumerate(load_frames(*arguments)):
            if number == 4:
                raise ReadError("moving.webp: cut")
            yield picture

    monkeypatch.setattr(files.images, "load_frames", cut, raising=False)
    todo = items(animation("moving.webp", 10), *pictures(1), frames="all")

    def fail(picture: images.Picture) -> None:
        if np.array_equal(picture.pixels * 255, np.full((6, 9, 3), (20, 0, 0), np.float32)):
            raise RestoreError("no")

    report = ran(todo, Doubler(fail=fail), load=images.LoadOptions(frames="all"))
    assert (report.totals.done, report.totals.failed) == (1, 1)
    assert report._shown.pixels == pytest.approx(sum(item.pixels for item in todo))


def test_names_cannot_break_lines_or_terminals() -> None:
    assert one_line("a\nb\x1b[31m\udcff ü€") == r"a\nb\x1b[31m\udcff ü€"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "60 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_well(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_pictures_without_an_outcome_are_an_error() -> None:
    totals = Totals(done=3, skipped=1, failed=1)
    totals.check_complete(5)
    with pytest.raises(RestoreError, match="2 of 7 pictures have no outcome"):
        totals.check_complete(7)


def test_only_errors_are_told_when_quiet_and_everything_when_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome("done", Path("a"), Path("b"), seconds=1.0), Outcome("skipped", Path("c"), reason="why"),
                Outcome("failed", Path("d"), reason="d: bad")]  # fmt: skip
    for verbosity, lines in ((-1, 1), (0, 1), (1, 3)):
        report = Report(verbosity=verbosity, progress=False)
        for outcome in outcomes:
            report.add(outcome)
        report.close()
        assert len(capsys.readouterr().err.splitlines()) == lines


def test_the_summary_names_failures_again_the_slowest_the_place_and_the_model() -> None:
    report = Report(progress=False)
    for name, seconds in (("a", 1.0), ("b", 70.0), ("c", 2.0)):
        report.add(Outcome("done", Path(name), Path("out", name), model="toy", seconds=seconds), 10)
    report.add(Outcome("failed", Path("d"), reason="d: damaged"))
    report.close()
    assert report.summary() == [
        "failed: d: damaged",
        "slowest: b, 1 min 10 s",
        f"3 done, 0 skipped, 1 failed in {duration(report.totals.seconds)}: in out/, made by toy",
    ]
    report.add(Outcome("done", Path("e"), Path("out/deep/e"), model="other", seconds=1.0))
    assert report.summary()[-1].endswith(": below out/, made by toy, other")


# --- the real network


def network(**config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build("heart", CONFIG | config).eval().requires_grad_(False)


def restorer(settings: Settings | None = None, alpha: Any = "resize", strength: float = 1.0, **config: Any) -> Restorer:
    return loaded(network(**config), settings or Settings(), alpha=alpha, strength=strength)


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
    assert restorer().batch_size(8, 8) == 1


def test_a_gpu_takes_as_many_as_it_holds_untiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The costs of the CPU stand in for a GPU's."""
    from irestore.planning import cost

    roomy = restorer(Settings(tile="off"))
    eight = cost(network(), 32, 32, Settings(tile="off"), batch=8).bytes
    tight = restorer(Settings(tile="off", max_memory=eight))
    tiled = restorer(Settings(tile=8))
    for each in (roomy, tight, tiled):
        monkeypatch.setattr(each, "device", torch.device("cuda"))
    assert (roomy.batch_size(32, 32), tight.batch_size(32, 32), tiled.batch_size(32, 32)) == (16, 8, 1)
    assert roomy.batch_size(512, 1024) == 2, "a batch of large pictures gains nothing"


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


def test_strength_is_that_of_transparency_too() -> None:
    picture = images.load(write_picture(Path("a.png"), (9, 11), "RGBA"))
    full, none = (restorer(alpha="restore", strength=s, upscale=1)([picture], nothing)[0].alpha for s in (1.0, 0.0))
    assert none == pytest.approx(picture.alpha)
    assert np.abs(full - picture.alpha).max() > 0.01


def test_pages_of_several_sizes_are_restored_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which takes several at once."""
    sizes = [(9, 10), (16, 16), (30, 9), (30, 9), (8, 8)]
    pages = [Image.open(write_picture(Path(f"{number}.png"), size)) for number, size in enumerate(sizes)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
    monkeypatch.setattr(Restorer, "batch_size", lambda *_: 4)
    report = ran(items("pages.tif", frames="all"), restorer(), load=images.LoadOptions(frames="all"))
    assert report.totals.done == 1
    with Image.open("out/pages_x2.tif") as image:
        for number, (height, width) in enumerate(sizes):
            image.seek(number)
            assert image.size == (2 * width, 2 * height)


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
    restorer = loaded(models.build("heart", CONFIG | {"upscale": 1}), Settings(), strength=0.5)
    with pytest.raises(OutOfMemoryError, match="does not fit into memory"):
        restorer([images.load(pictures(1)[0])], lambda _: None)


def test_the_memory_of_a_network_of_one_channel_is_that_of_three_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = models.build("heart", CONFIG | {"in_chans": 1})
    needed = cost(model, 64, 64, Settings(), batch=3).bytes
    assert loaded(model, Settings(max_memory=4 * needed)).side_by_side(64, 64) == 2
    assert loaded(model, Settings(max_memory=4 * needed - 1)).side_by_side(64, 64) == 1
