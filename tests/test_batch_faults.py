"""Whatever happens to a run, an output is whole or absent, and the same command makes up the rest.

IRESTORE_TEST_KILLS sets how often a run is killed (20 is the full test; default 2).
"""

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import IRESTORE, finish, interrupt, irestore, results, size_of, start, write_picture, write_weights

KILLS = int(os.environ.get("IRESTORE_TEST_KILLS", "2"))
PICTURES = 25


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder `in` of pictures, and `out`, what one undisturbed run makes of them."""
    folder = tmp_path_factory.mktemp("whole")
    for number in range(PICTURES):
        write_picture(folder / "in" / f"{number:02}.png", (30 + number, 50))
    assert irestore(folder, "sr", "--weights", weights, "-r", "in", "-o", "out").code == 0
    assert len(results(folder / "out")) == PICTURES
    return folder


def finished(folder: Path) -> dict[str, bytes]:
    """Results; what a killed process left under a name that no result has does not count."""
    return {name: content for name, content in results(folder).items() if not Path(name).name.startswith(".irestore-")}


def test_a_run_killed_at_any_moment_leaves_whole_results_and_is_made_up_byte_for_byte(
    tmp_path: Path, whole: Path, weights: Path
) -> None:
    expected = results(whole / "out")
    command = [IRESTORE, "sr", "--weights", weights, "-r", whole / "in", "-o"]
    moments = random.Random(0)
    killed_amid = 0
    for attempt in range(KILLS):
        out = tmp_path / f"out{attempt}"
        process = start(tmp_path, [*command, out])
        deadline = time.monotonic() + 30
        enough = moments.randrange(1, PICTURES - 5)  # results, so that the moment falls into the run on any machine
        while len(finished(out)) < enough and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.01)
        process.kill()
        finish(process)
        made = finished(out)
        assert made.items() <= expected.items()
        killed_amid += 0 < len(made) < PICTURES
        rest = irestore(tmp_path, *command[1:], out)
        assert rest.code == 0
        assert f"{PICTURES - len(made)} done, {len(made)} skipped, 0 failed" in rest.err
        assert finished(out) == expected
    assert killed_amid > 0


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, weights: Path) -> None:
    """Two signals in one go: the second one may meet the program anywhere on its way out."""
    for number in range(60):
        write_picture(tmp_path / "in" / f"{number:02}.png", (60, 60))
    out = tmp_path / "out"
    process = start(tmp_path, [IRESTORE, "sr", "--weights", weights, "-r", "in", "-o", "out"])
    deadline = time.monotonic() + 60
    while not any(out.glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    ran = interrupt(process, signal.SIGINT, lambda: True)
    assert time.monotonic() - began < 5
    assert ran.code in (130, -signal.SIGINT)
    for path in out.glob("*.png"):
        assert size_of(path) == (120, 120)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder with a picture in it that nothing can be written to: by its mode or, for root, by its file system."""
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.getuid() != 0:
        write_picture(folder / "a.png")
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True).returncode != 0:
        pytest.skip("root cannot mount a file system here, and no mode stops root")
    write_picture(folder / "a.png")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_cannot_be_written_fails_its_pictures_only(locked: Path, tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "open" / "b.png")
    ran = irestore(tmp_path, "sr", "--weights", weights, "locked/a.png", "open/b.png")
    assert ran.code == 1
    assert "irestore: locked: cannot be written: " in ran.err
    assert sorted(results(tmp_path)) == ["locked/a.png", "open/b.png", "open/b_x2.png"]
    dry = irestore(tmp_path, "sr", "--weights", weights, "locked/a.png", "-n")
    assert dry.code == 1
    assert "irestore: locked: cannot be written: " in dry.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_with_a_clear_message_and_keeps_what_is_done(
    small_disk: Path, tmp_path: Path, whole: Path, weights: Path
) -> None:
    ran = irestore(tmp_path, "sr", "--weights", weights, "-r", whole / "in", "-o", small_disk)
    assert ran.code == 1
    assert "the disk is full; free some space and run again" in ran.err
    made, expected = results(small_disk), results(whole / "out")
    assert 0 < len(made) < PICTURES
    assert made.items() <= expected.items()


def test_a_plan_that_cannot_fit_is_refused_before_it_begins(small_disk: Path, tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png", (400, 400))
    ran = irestore(tmp_path, "sr", "--weights", weights, "a.png", "-o", f"{small_disk}/")
    assert ran.code == 1
    assert "free" in ran.err
    assert results(small_disk) == {}


def test_pictures_that_vanish_while_the_run_goes_on_fail_alone(tmp_path: Path, weights: Path) -> None:
    for number in range(40):
        write_picture(tmp_path / "in" / f"{number:02}.png", (60, 60))
    out = tmp_path / "out"
    process = start(tmp_path, [IRESTORE, "sr", "--weights", weights, "-r", "in", "-o", "out"])
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    (tmp_path / "in" / "39.png").unlink()
    write_picture(tmp_path / "in" / "38.png", (9, 9))
    ran = finish(process)
    assert ran.code == 1
    assert "39.png: no such file" in ran.err
    assert "38.png: has changed" in ran.err
    assert len(results(out)) == 38


def test_every_error_number_of_a_full_disk_is_known() -> None:
    from irestore.batch.files import is_full_disk
    from irestore.errors import WriteError

    wrapped = WriteError("a")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert is_full_disk(OSError(errno.ENOSPC, ""))
    assert is_full_disk(wrapped)
    assert not is_full_disk(WriteError("a"))
    assert not is_full_disk(OSError(errno.EACCES, ""))
