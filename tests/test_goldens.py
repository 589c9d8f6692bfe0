"""The networks equal upstream's: every case of every golden, whole and in tiles, in float32.

Reads the folder IRESTORE_GOLDENS, else the sibling shared/goldens, and always tests/data (made by tests/data/make.py).
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import goldens
import pytest
import reference
import torch
from networks import run, tiles

from irestore import models

TOLERANCE = 1e-5
PLAIN_PIXELS = 1100  # the reference is slow: it is checked on smaller inputs only
UPSTREAM = goldens.folder()
PLACES = [place for place in (UPSTREAM, goldens.OWN) if place]
FILES = {
    f"{place.name}/{name}": paths
    for place in PLACES
    for name, paths in goldens.names(place).items()
    if goldens.metadata(paths[0])["arch"] in goldens.ARCHITECTURE
}
SHAPES = {
    (name, case["i"]): case["shape"] for name, paths in FILES.items() for case in goldens.metadata(paths[0])["cases"]
}


def test_upstreams_goldens_are_here() -> None:
    if UPSTREAM is None:
        pytest.skip("no goldens of upstream here: IRESTORE_GOLDENS is not set and there is no sibling shared/goldens")
    assert any(UPSTREAM in paths[0].parents for paths in FILES.values())


@pytest.mark.parametrize(("name", "case"), SHAPES)
def test_every_tiling_gives_the_golden_output(name: str, case: int) -> None:
    golden = goldens.read(FILES[name])
    model, image, expected = golden.model(), golden.inputs[case], golden.outputs[case]
    for label, tile in {"whole": None, **tiles(model.window)}.items():
        error = (run(model, image, tile) - expected).abs().max().item()
        assert error <= TOLERANCE, f"{label}: {error:.1e} from the golden output"


@pytest.mark.parametrize(("name", "case"), [key for key, shape in SHAPES.items() if prod(shape[2:]) <= PLAIN_PIXELS])
def test_the_plain_reference_gives_the_golden_output(name: str, case: int) -> None:
    golden = goldens.read(FILES[name])
    result = reference.restore(golden.architecture, golden.weights, golden.config, golden.inputs[case])
    assert (result - golden.outputs[case]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("name", FILES)
def test_a_fresh_network_has_the_goldens_tensors_and_buffers(name: str) -> None:
    golden = goldens.read(FILES[name])
    state = models.build(golden.architecture, golden.config).state_dict()
    weights = models.rename(golden.dialect, golden.weights)
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in weights.items()}
    for key, value in weights.items():
        if not value.is_floating_point():  # the tables of relative positions
            assert torch.equal(state[key], value), key


def test_own_goldens_are_small() -> None:
    sizes = [path.stat().st_size for path in Path(goldens.OWN).glob("*.safetensors")]
    assert len(sizes) >= 2
    assert max(sizes) < 65_536
