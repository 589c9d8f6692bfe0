"""The rehearsal of `benchmarks.gpu`: every section gives rows, whatever fails is told, and the page shows all."""

from __future__ import annotations

import warnings

import pytest
import torch

from benchmarks import device, gpu
from irestore import scratch

HERE = device.Run(torch.device("cpu"), quick=True)


@pytest.mark.parametrize("name", ["goldens", "exactness", "synchronisation", "speed", "profile"])
def test_a_section_gives_rows_and_its_laws_hold(name: str) -> None:
    section, seconds = gpu.SECTIONS[name]
    rows = list(section(HERE))
    assert rows
    assert all(row.get("ok", True) for row in rows)
    assert seconds <= 170
    table = gpu.page({"machine": gpu.machine(HERE.device), "sections": {name: {"seconds": 1.0, "rows": rows}}})
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 1 + len(rows)


def test_all_sections_together_take_less_than_eight_minutes() -> None:
    assert sum(seconds for _, seconds in gpu.SECTIONS.values()) < 480


def test_a_section_that_fails_or_hangs_is_told_and_its_rows_are_kept() -> None:
    failed = gpu.apart("speed", ["--device", "nowhere"], 60)
    assert "exit code 1" in failed["error"]
    assert "nowhere" in failed["error"]
    hung = gpu.apart("speed", ["--device", "cpu"], 1)
    assert (hung["error"].startswith("stopped after 1 s"), hung["rows"]) == (True, [])


def test_a_wait_for_the_device_is_told_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    monkeypatch.setattr(
        scratch.torch, "empty", lambda *shape, **how: warnings.warn("called a synchronizing operation", stacklevel=1)
    )
    (place,) = device.waits(lambda: [scratch.Store.memory((1,), torch.float32, HERE.device) for _ in range(2)]).items()
    assert place[0].startswith("scratch.py:")
    assert place[0].endswith(" memory")
    assert place[1] == 2
