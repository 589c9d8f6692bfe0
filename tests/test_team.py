"""Several devices compute one picture: what one of them would have made of it, whoever computes which tile."""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import BASES, network, pictures
from tiny import results, write_picture, write_weights

from irestore import team
from irestore.cli import main
from irestore.field import Field
from irestore.models.network import Network
from irestore.planning import Settings
from irestore.runner import restore
from irestore.statistics import Products, Statistics


@pytest.mark.parametrize("architecture", BASES)
@pytest.mark.parametrize("tile", ["auto", 8])
def test_two_and_three_devices_make_what_one_makes_and_the_same_bytes_each_time(architecture: str, tile: Any) -> None:
    model = network(architecture)
    (_, noise), _, (_, gradient) = pictures(21, 14)
    for image, count in ((noise, 2), (gradient, 1)):
        beside = [copy.deepcopy(model) for _ in range(count)]
        together = restore(model, image, Settings(tile=tile), beside=beside)
        assert (together - restore(model, image, Settings(tile="off"))).abs().max() <= 1e-10
        assert torch.equal(together, restore(model, image, Settings(tile=tile), beside=beside))


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    model = network()
    restore(model, next(pictures(20, 20))[1], Settings(tile=4), told.append, beside=[copy.deepcopy(model)])
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


def failing(model: Network, error: BaseException) -> Network:
    """A copy that fails while the others wait for it."""

    def broken(_: Field) -> Field:
        raise error

    made = copy.deepcopy(model)
    made.forward = broken  # type: ignore[method-assign]
    return made


def test_an_error_of_one_device_ends_all() -> None:
    model = network()
    with pytest.raises(ZeroDivisionError):
        restore(model, next(pictures(20, 20))[1], beside=[failing(model, ZeroDivisionError())])


def test_one_device_does_it_alone_where_another_has_too_little_memory() -> None:
    model, image = network(), next(pictures(20, 20))[1]
    result = restore(model, image, beside=[failing(model, torch.OutOfMemoryError())])
    assert (result - restore(model, image)).abs().max() <= 1e-10


def test_several_devices_share_the_one_picture_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def watched(networks: Sequence[Network], *rest: Any) -> Field:
        sizes.append(len(networks))
        return team.forward(networks, *rest)

    monkeypatch.setattr("irestore.runner.forward", watched)
    weights = write_weights(tmp_path / "tiny.safetensors")
    command = ["sr", "--weights", str(weights), "-d", "cpu,cpu", "-o", str(tmp_path / "out/")]
    names = [str(write_picture(tmp_path / f"{number}.png", (40, 30))) for number in range(3)]
    assert main([*command, names[0]]) == 0
    assert sizes == [2]
    assert main([*command, *names[1:]]) == 0
    assert sizes == [2]
    assert len(results(tmp_path / "out")) == 3


@pytest.mark.parametrize("sums", [Statistics.of, partial(Products.of, heads=1)])
def test_sums_of_another_device_are_merged(sums: Any) -> None:
    first, second = (sums(torch.ones(1, 2, 3, 4, device=device)) for device in ("meta", "cpu"))
    merged = vars(first.merge(second)).values()  # two GPUs in one machine: "meta" stands for the first
    assert {value.device.type for value in merged if isinstance(value, torch.Tensor)} == {"meta"}
