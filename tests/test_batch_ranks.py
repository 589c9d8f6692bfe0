"""Several ranks: the files of one process byte for byte, one summary, one exit code; deaths are told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import environment, finish, irestore, results, start, write_picture, write_weights

from irestore.batch.ranks import Group, Ranks, _free_port, ranks
from irestore.batch.report import Totals
from irestore.errors import RankError

PICTURES = 12
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "irestore"]
LAUNCH = "import sys; from irestore.batch.ranks import launch; sys.exit(launch(sys.argv[2:], int(sys.argv[1])))"

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder `in` of pictures, and `out`, what one process makes of them."""
    folder = tmp_path_factory.mktemp("whole")
    for number in range(PICTURES):
        write_picture(folder / "in" / f"{number:02}.png", (30 + 5 * number, 50))
    assert irestore(folder, "sr", "--weights", weights, "-r", "in", "-o", "out").code == 0
    return folder


def test_two_ranks_make_the_files_of_one_process_and_tell_it_once(tmp_path: Path, whole: Path, weights: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    arguments = ["sr", "--weights", weights, "-r", whole / "in", "bad.png", "-o", "out", "--json"]
    ran = finish(start(tmp_path, [*TORCHRUN, *arguments]))
    assert results(tmp_path / "out") == results(whole / "out")
    summaries = [line for line in ran.err.splitlines() if "done," in line]
    assert len(summaries) == 1
    assert f"{PICTURES} done, 0 skipped, 1 failed" in summaries[0]
    assert summaries[0].endswith("2 ranks")
    assert ran.err.count("irestore: bad.png: ") == 1
    assert sorted(Path(r["input"]).name for r in ran.records) == [f"{n:02}.png" for n in range(PICTURES)] + ["bad.png"]
    assert ran.code != 0  # the picture that failed


def test_what_makes_no_sense_ends_all_ranks_with_one_message(tmp_path: Path, whole: Path, weights: Path) -> None:
    ran = finish(
        start(tmp_path, [sys.executable, "-c", LAUNCH, "2", "sr", "--weights", str(weights), "missing", "-t", "0"])
    )
    assert ran.code == 2
    write_picture(tmp_path / "a.png")
    command = [
        sys.executable,
        "-c",
        LAUNCH,
        "2",
        "sr",
        "--weights",
        str(weights),
        "a.png",
        "-o",
        "a.png",
        "--overwrite",
    ]
    ran = finish(start(tmp_path, command))
    assert ran.code == 2
    assert ran.err.count("is the input itself") == 1


def test_a_launch_gives_the_exit_code_and_the_files_of_one_process(tmp_path: Path, whole: Path, weights: Path) -> None:
    """What `--device cuda:all` does, with two ranks on the CPU."""
    command = [sys.executable, "-c", LAUNCH, "2", "sr", "--weights", str(weights), "-r", str(whole / "in"), "-o", "out"]
    ran = finish(start(tmp_path, command))
    assert (ran.code, ran.out) == (0, b"")
    assert results(tmp_path / "out") == results(whole / "out")
    assert f"{PICTURES} done, 0 skipped, 0 failed" in ran.err


@needs_proc
def test_a_rank_that_is_killed_fails_the_run_and_running_again_completes_it(
    tmp_path: Path, whole: Path, weights: Path
) -> None:
    for number in range(60):
        write_picture(tmp_path / "in" / f"{number:02}.png", (60, 60))
    out = tmp_path / "out"
    for launcher in (TORCHRUN, [sys.executable, "-c", LAUNCH, "2"]):
        process = start(tmp_path, [*launcher, "sr", "--weights", weights, "-r", "in", "-o", "out", "--overwrite"])
        seen = set(out.glob("*.png")) if out.exists() else set()
        deadline = time.monotonic() + 60
        while not changed(out, seen) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(rank_of(process, 1), signal.SIGKILL)
        ran = finish(process)
        assert ran.code != 0, ran.err
        made = {name for name in results(out) if not name.startswith(".irestore-")}
        assert made
        for path in out.glob("*.png"):
            path.unlink()
    rest = irestore(tmp_path, "sr", "--weights", weights, "-r", "in", "-o", "out")
    assert (rest.code, len(list(out.glob("*.png")))) == (0, 60)


@needs_proc
def test_a_run_that_torchrun_restarts_makes_every_picture(tmp_path: Path, weights: Path) -> None:
    """The store that counts claims outlives the restart."""
    for number in range(40):
        write_picture(tmp_path / "in" / f"{number:02}.png", (60, 60))
    out = tmp_path / "out"
    launcher = [*TORCHRUN[:3], "--max-restarts", "1", *TORCHRUN[3:]]
    process = start(tmp_path, [*launcher, "sr", "--weights", weights, "-r", "in", "-o", "out"])
    deadline = time.monotonic() + 60
    while len(results(out)) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(rank_of(process, 1), signal.SIGKILL)
    ran = finish(process)
    assert ran.code == 0, ran.err
    assert len(list(out.glob("*.png"))) == 40
    assert " 0 failed" in ran.err


def test_pictures_that_are_missing_at_the_end_are_an_error() -> None:
    group = Group.__new__(Group)
    group.rank = 0
    group.check_complete(Totals(done=3, skipped=1, failed=1), 5)
    with pytest.raises(RankError, match="2 of 7 pictures were not made"):
        group.check_complete(Totals(done=3, skipped=1, failed=1), 7)


@pytest.mark.parametrize("bad", ["damaged", "changed"])
def test_fail_fast_stops_every_rank(tmp_path: Path, weights: Path, bad: str) -> None:
    """Whether the plan meets the failure or one of the ranks, the others begin nothing more."""
    for number in range(80):
        write_picture(tmp_path / "in" / f"{number:02}.png", (90, 90))
    bad_picture = tmp_path / "in" / "00.png"
    if bad == "damaged":
        bad_picture.write_text("no picture")
    else:  # its header is good, its pixels are not
        bad_picture.write_bytes(bad_picture.read_bytes()[:3000])
    ran = finish(start(tmp_path, [*TORCHRUN, "sr", "--weights", weights, "-r", "in", "-o", "out", "--fail-fast"]))
    assert ran.code != 0
    assert "1 failed" in ran.err
    assert len(results(tmp_path / "out")) < (1 if bad == "damaged" else 60)


def test_a_rank_that_never_comes_is_told_after_the_stated_time(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    alone = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ran = irestore(
        tmp_path, "sr", "--weights", weights, "a.png", "-o", "out/", more=alone | {"IRESTORE_JOIN_SECONDS": "1"}
    )
    assert ran.code == 1
    assert "irestore: rank 0: the ranks did not come together within 1 s (missing: 1); start all 2 of them" in ran.err
    assert "Traceback" not in ran.err


def test_a_launch_inside_a_torchrun_of_one_process_does_not_wait_for_its_store(
    tmp_path: Path, whole: Path, weights: Path
) -> None:
    """`torchrun -n 1 -m irestore ... --device cuda:all`, with two ranks on the CPU."""
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", str(script)]
    arguments = ["2", "sr", "--weights", weights, "-r", whole / "in", "-o", "out"]
    ran = finish(start(tmp_path, [*launcher, *arguments], more={"IRESTORE_JOIN_SECONDS": "20"}))
    assert ran.code == 0, ran.err
    assert results(tmp_path / "out") == results(whole / "out")


def changed(out: Path, seen: set[Path]) -> bool:
    return out.exists() and set(out.glob("*.png")) != seen


def rank_of(process: "subprocess.Popen[bytes]", rank: int) -> int:
    """The process id of a rank."""
    for pid in children(process.pid):
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return pid
    raise AssertionError("no such rank")


def children(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return own + [grandchild for child in own for grandchild in children(child)]


@needs_proc
def test_a_stop_of_the_launcher_stops_its_ranks(tmp_path: Path, weights: Path) -> None:
    for number in range(60):
        write_picture(tmp_path / "in" / f"{number:02}.png", (60, 60))
    code = f"import sys; sys.argv[0] = 'irestore'; from irestore.cli import signals\n{LAUNCH}"
    code = code.replace("sys.exit(", "\nwith signals.stop_signals():\n  sys.exit(")
    process = start(tmp_path, [sys.executable, "-c", code, "2", "sr", "--weights", weights, "-r", "in", "-o", "out"])
    deadline = time.monotonic() + 60
    while not changed(tmp_path / "out", set()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    ranks = children(process.pid)
    process.terminate()
    ran = finish(process)
    assert ran.code != 0
    assert len(ranks) >= 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert not list((tmp_path / "out").glob(".*"))


def test_claims_give_each_number_to_one_rank_only(tmp_path: Path) -> None:
    code = (
        "import json; from irestore.batch.ranks import ranks; from irestore.batch.report import Totals\n"
        "r = ranks(); r.join(); plan = r.broadcast(list('abc') if r.rank == 0 else None); taken = list(r.claims(50))\n"
        "r.advanced(2.0); total = r.merged(Totals(done=len(taken)))\n"
        "print(json.dumps([plan, taken, total.done, total.ranks, r.advanced(0.0)])); r.leave()\n"
    )
    port = str(_free_port())
    home = environment(tmp_path, {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=home | {"RANK": str(rank)}, stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [each[0] for each in told] == [["a", "b", "c"]] * 2
    assert sorted(number for each in told for number in each[1]) == list(range(50))
    assert [each[2:] for each in told] == [[50, 2, 4.0]] * 2


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    alone = ranks()
    assert type(alone) is Ranks
    alone.join()
    assert alone.broadcast("plan") == "plan"
    assert list(alone.claims(3)) == [0, 1, 2]
    assert (alone.advanced(1.5), alone.advanced(1.0)) == (1.5, 2.5)
    assert alone.merged(Totals(1)) == Totals(1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert type(ranks()) is Ranks
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert isinstance(ranks(), Group)
