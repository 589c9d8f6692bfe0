"""`--shard`: parts of a run that never talk are disjoint, complete and even, and together make what one run makes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import click
import pytest
from tiny import irestore, results, write_picture, write_weights

from irestore import images
from irestore.batch.inputs import Elsewhere, find
from irestore.batch.plan import Plan, Request, plan
from irestore.batch.shards import Shard
from irestore.cli import main
from irestore.cli.values import SCHEDULERS, shard
from irestore.errors import UsageError

SLURM = {"SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine of no scheduler."""
    for variables in SCHEDULERS.values():
        for variable in filter(None, variables):
            monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def planned(number: int, count: int, *inputs: str | Path, overwrite: bool = False) -> Plan:
    request = Request(task="sr", scale=2, model="toy", overwrite=overwrite)
    return plan(request, find(inputs, recursive=True, shard=Shard(number, count)))


def mine(number: int, count: int, *inputs: str) -> list[str]:
    found = find(inputs, recursive=True, shard=Shard(number, count))
    return [str(each.path) for each in found if not isinstance(each, Elsewhere)]


def test_each_of_20_000_names_is_in_one_shard_and_shards_are_of_a_size() -> None:
    names = [PurePath(f"{number % 37}/{number:05}.jpg") for number in range(20_000)]
    for count, tolerance in ((4, 0.03), (100, 0.25)):  # a hash spreads 200 names no more evenly than dice do
        shards = [Shard(number + 1, count) for number in range(count)]
        sizes = [sum(each.has(name) for name in names) for each in shards]
        assert sum(sizes) == len(names)
        assert all(sum(each.has(name) for each in shards) == 1 for name in names[:200])
        assert max(abs(size * count / len(names) - 1) for size in sizes) < tolerance


def test_the_shard_of_a_picture_never_changes() -> None:
    """Machines of different versions may work on one folder."""
    shards = [next(n for n in range(1, 101) if Shard(n, 100).has(PurePath(name))) for name in ("a.png", "b/ü.png")]
    assert shards == [73, 39]


def test_a_picture_is_named_by_its_path_below_the_folder_or_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [f"{letter}{number}.png" for letter in "ab" for number in range(9)]:
        write_picture(tmp_path / "here" / "in" / "deep" / name)
    monkeypatch.chdir(tmp_path / "here")
    relative = [mine(number, 3, "in") for number in (1, 2, 3)]
    monkeypatch.chdir(tmp_path)
    absolute = [mine(number, 3, str(tmp_path / "here" / "in")) for number in (1, 2, 3)]
    assert [[f"{tmp_path}/here/{path}" for path in part] for part in relative] == absolute
    given = [f"here/in/deep/a{number}.png" for number in range(9)]
    expected = [[path for path in given if Shard(number, 3).has(PurePath(path))] for number in (1, 2, 3)]
    assert [mine(number, 3, *given) for number in (1, 2, 3)] == expected
    # What is named twice is one picture, of the shard of the name that came first.
    twice = [path for number in (1, 2, 3) for path in mine(number, 3, *given, *[f"./here/../{path}" for path in given])]
    assert sorted(twice) == given


def test_planning_a_shard_opens_none_of_the_others_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        write_picture(tmp_path / "in" / f"{number}.png", (1, 1))
    opened: list[str] = []
    probe = images.probe
    monkeypatch.setattr(images, "probe", lambda path, options: (opened.append(path.name), probe(path, options))[1])
    made = planned(2, 5, tmp_path / "in")
    assert 0 < len(made.items) < 20
    assert sorted(opened) == sorted(item.input.path.name for item in made.items)


def test_planning_one_of_100_shards_of_20_000_names_takes_no_time(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    first = write_picture(folder / "0.png", (1, 1))
    for number in range(1, 20_000):
        os.link(first, folder / f"{number}.png")
    began = time.process_time()
    made = planned(3, 100, folder)
    assert time.process_time() - began < 1.5
    assert len(made.items) > 100


def test_an_input_of_another_shard_is_never_overwritten_but_an_own_result_is(tmp_path: Path) -> None:
    """`a.png` is of shard 1 of 2, `a_x2.png` is of shard 2."""
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "a_x2.png")
    (number,) = [number for number in (1, 2) if Shard(number, 2).has(PurePath("a.png"))]
    assert not Shard(number, 2).has(PurePath("a_x2.png"))
    with pytest.raises(UsageError, match=r"a_x2.png: is an input"):
        planned(number, 2, tmp_path, overwrite=True)
    tag = images.provenance("0.1.0", "toy", "0" * 64) + " task=sr"
    again = images.load(tmp_path / "a_x2.png")
    images.save(again, tmp_path / "a_x2.png", images.SaveOptions(provenance=tag))
    assert [item.input.path.name for item in planned(number, 2, tmp_path, overwrite=True).items] == ["a.png"]


def test_shards_make_the_files_of_one_run_and_one_that_was_lost_is_made_up_alone(tmp_path: Path, weights: Path) -> None:
    for number in range(12):
        write_picture(tmp_path / "in" / f"{number:02}.png", (20 + number, 24))
    (tmp_path / "in" / "bad.png").write_text("no picture")
    command = ["sr", "--weights", str(weights), "-r", str(tmp_path / "in"), "-q", "-o"]
    assert main([*command, str(tmp_path / "whole")]) == 1
    whole = results(tmp_path / "whole")
    out = tmp_path / "out"
    codes = [main([*command, str(out), "--shard", f"{number}/3"]) for number in (1, 2, 3)]
    assert results(out) == whole
    assert sorted(codes) == [0, 0, 1]
    lost = [path for path in out.iterdir() if Shard(2, 3).has(PurePath(path.name.replace("_x2", "")))]
    assert lost
    for path in lost[1:]:
        path.unlink()
    assert main([*command, str(out), "--shard", "2/3"]) == codes[1]
    assert results(out) == whole


def test_a_shard_says_that_it_has_no_picture_and_does_not_use_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], weights: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "a.png")
    (other,) = [number for number in (1, 2) if not Shard(number, 2).has(PurePath("a.png"))]
    assert main(["sr", "--weights", str(weights), "a.png", "--shard", f"{other}/2"]) == 0
    assert f"no pictures of shard {other}/2 found in a.png" in capsys.readouterr().err
    for pipe in (["a.png", "-o", "-"], ["-", "-o", "b.png"]):
        assert main(["sr", "--weights", str(weights), *pipe, "--shard", "1/2"]) == 2
        assert "leave it out for a pipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "0/0", "1", "/", "a/b", "-1/4", "1/4/2", "", "pbs", "٣/4", "1/1e9"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"from 1 to N|is not a shard"):
        shard(text)


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        (
            "slurm",
            {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"},
            Shard(1, 4),
        ),
        (
            "slurm",
            {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "6"},
            Shard(4, 4),
        ),
        ("k8s", {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "3"}, Shard(3, 3)),
        ("aws", {"AWS_BATCH_JOB_ARRAY_INDEX": "0", "AWS_BATCH_JOB_ARRAY_SIZE": "2"}, Shard(1, 2)),
    ],
)
def test_schedulers_say_which_shard_it_is_where_they_are_asked(
    scheduler: pytest.MonkeyPatch, name: str, environment: dict[str, str], expected: Shard
) -> None:
    for variable, value in environment.items():
        scheduler.setenv(variable, value)
    assert shard(name) == shard("auto") == expected
    assert shard("1/1") == Shard(), "never silently"


@pytest.mark.parametrize(
    ("name", "environment", "said"),
    [
        ("slurm", {}, "SLURM_ARRAY_TASK_ID is not set"),
        ("k8s", {"JOB_COMPLETION_INDEX": "2"}, "JOB_COMPLETIONS is not set"),
        ("aws", {"AWS_BATCH_JOB_ARRAY_INDEX": "x", "AWS_BATCH_JOB_ARRAY_SIZE": "2"}, "INDEX is 'x', not a number"),
        ("slurm", SLURM | {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "3"}, "7/4"),
        ("auto", {}, "none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX is set"),
        ("auto", {"JOB_COMPLETION_INDEX": "0", "AWS_BATCH_JOB_ARRAY_INDEX": "0"}, "name the scheduler"),
    ],
)
def test_what_a_scheduler_has_not_said_is_told(
    scheduler: pytest.MonkeyPatch, name: str, environment: dict[str, str], said: str
) -> None:
    for variable, value in environment.items():
        scheduler.setenv(variable, value)
    with pytest.raises(click.BadParameter, match=said):
        shard(name)


def test_processes_of_torchrun_end_with_one_line_that_names_the_remedies(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    ran = irestore(tmp_path, "sr", "--weights", weights, "a.png", more={"RANK": "1", "WORLD_SIZE": "2"})
    (line,) = ran.err.splitlines()
    assert ran.code == 2
    assert line.startswith("irestore: torchrun (WORLD_SIZE=2): ")
    assert "--shard" in line
    assert "--device cuda:all" in line
    assert irestore(tmp_path, "sr", "--weights", weights, "a.png", more={"RANK": "0", "WORLD_SIZE": "1"}).code == 0
