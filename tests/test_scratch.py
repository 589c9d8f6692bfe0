from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

from irestore import scratch
from irestore.errors import RestoreError
from irestore.scratch import Store

SHAPE = (2, 6, 5, 3)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where scratch files go in this test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_file_holds_what_was_written(folder: Path, dtype: torch.dtype) -> None:
    store, tile = Store.file(SHAPE, dtype), torch.rand(2, 3, 2, 3).to(dtype)
    store.write(tile, 2, 3)
    store.release()
    assert store.data.shape == SHAPE
    assert torch.equal(store.data[:, 2:5, 3:5], tile)
    assert store.data[:, :2].abs().max() == 0


def open_files(folder: Path) -> int:
    links = list(Path("/proc/self/fd").iterdir())
    return sum(str(folder) in str(link.readlink()) for link in links if link.is_symlink())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc (Linux)")
def test_the_file_has_no_name_and_vanishes_with_the_store(folder: Path) -> None:
    store = Store.file(SHAPE, torch.float32)
    assert list(folder.iterdir()) == []  # nothing to clean up, even after a crash
    assert open_files(folder) == 1
    view = store.data[0]
    del store
    assert open_files(folder) == 1  # still in use
    assert view.shape == (6, 5, 3)
    del view
    assert open_files(folder) == 0


def test_a_full_disk_is_told_with_folder_size_and_remedy(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(RestoreError) as caught:
        Store.file((1, 1024, 1024, 8), torch.float32)
    message = str(caught.value)
    assert message.startswith(f"{folder}: no room for 32 MiB of scratch (No space left on device)")
    assert "TMPDIR" in message
    assert "\n" not in message


def test_a_folder_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scratch, "scratch_folder", lambda: tmp_path / "gone")
    with pytest.raises(RestoreError, match="gone"):
        Store.file(SHAPE, torch.float32)


def test_the_folder_is_tmpdir_where_it_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch.scratch_folder() == folder
    monkeypatch.delenv("TMPDIR")
    lasting = Path("/var/tmp")
    if lasting.is_dir() and os.access(lasting, os.W_OK):
        assert scratch.scratch_folder() == lasting  # unlike /tmp never in memory
    else:
        assert scratch.scratch_folder().is_dir()


def test_memory_needs_no_release() -> None:
    store = Store.memory(SHAPE, torch.float32, torch.device("cpu"))
    store.write(torch.ones(SHAPE), 0, 0)
    store.release()
    assert (store.data == 1).all()
