"""URLs as inputs and as `-o`: the same results as of files, in a file system that is elsewhere."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tiny import results, write_picture, write_weights

from irestore.cli import main
from irestore.errors import _stand_ins


@pytest.fixture
def store() -> Iterator[Any]:
    """An empty file system in memory."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()


@pytest.fixture
def photos(tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pictures in two folders, here and there; one of them is damaged, one is no picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRESTORE_WEIGHTS", str(write_weights(tmp_path / "tiny.safetensors")))
    for number in range(4):
        write_picture(tmp_path / "photos" / ("deep" if number % 2 else ".") / f"{number}.png")
    (tmp_path / "photos" / "4.png").write_bytes(b"damaged")
    (tmp_path / "photos" / "notes.txt").write_bytes(b"none")
    for name, content in results(tmp_path / "photos").items():
        store.pipe_file(f"/bucket/photos/{name}", content)
    return tmp_path / "photos"


def there(store: Any, folder: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{folder}/"): store.cat_file(name) for name in store.find(folder)}


def test_a_folder_at_a_url_becomes_what_it_becomes_here_and_is_left_as_it_is_when_run_again(
    photos: Path, store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sr", "-r", "photos", "-o", "large"]) == 1
    before = there(store, "/bucket/photos")
    capsys.readouterr()
    for status in ("done", "skipped"):
        assert main(["sr", "-r", "memory://bucket/photos", "-o", "memory://bucket/large", "--json"]) == 1
        out, err = capsys.readouterr()
        told = {record["input"]: record for record in map(json.loads, out.splitlines())}
        assert [record["status"] for record in told.values()].count(status) == 4
        assert told["memory://bucket/photos/deep/1.png"]["output"] == "memory://bucket/large/deep/1_x2.png"
        assert told["memory://bucket/photos/4.png"]["error"].startswith("memory://bucket/photos/4.png: ")
        assert "irestore-urls" not in out + err
        assert ("below memory://bucket/large/" in err) == (status == "done")
        assert there(store, "/bucket/large") == results(Path("large"))
    assert there(store, "/bucket/photos") == before


def test_results_lie_beside_their_inputs_where_no_other_place_is_named(photos: Path, store: Any) -> None:
    for _ in range(2):  # the second time the result exists
        assert main(["sr", "memory://bucket/photos/0.png"]) == 0
    assert "0_x2.png" in there(store, "/bucket/photos")


def test_files_here_go_to_a_url_and_from_one_to_a_file_here(photos: Path, store: Any) -> None:
    assert main(["sr", "photos/0.png", "-o", "memory://bucket/one.png"]) == 0
    assert main(["sr", "memory://bucket/photos/0.png", "-o", "one.png"]) == 0
    assert store.cat_file("/bucket/one.png") == Path("one.png").read_bytes()


def test_a_temporary_folder_may_have_spaces_in_its_name(
    photos: Path, store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos.parent / "my 'temporary' files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    _stand_ins.cache_clear()
    assert main(["sr", "-v", "memory://bucket/photos/0.png", "-o", "memory://bucket/large/"]) == 0
    assert "memory://bucket/photos/0.png -> memory://bucket/large/0_x2.png" in capsys.readouterr().err
    assert list(there(store, "/bucket/large")) == ["0_x2.png"]
    _stand_ins.cache_clear()


def test_a_name_that_would_lead_out_of_the_stand_ins_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(self: Any, root: str, maxdepth: int | None = None) -> list[str]:
        return [f"{root}/../../../../victim.png"]

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", find)
    assert main(["sr", "-r", "memory://bucket/photos", "-o", "large"]) == 2
    assert "which no file can stand for" in capsys.readouterr().err


def test_only_the_header_is_read_before_the_run(photos: Path, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("irestore.images.read._whole", unread)
    assert main(["sr", "-n", "memory://bucket/photos/0.png"]) == 0


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("memory://bucket/none.png", "irestore: memory://bucket/none.png: no such file\n"),
        ("memory://bucket/photos", "irestore: memory://bucket/photos: is a folder; -r restores the pictures in it\n"),
    ],
)
def test_what_is_not_there_is_told_by_its_url(
    url: str, told: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sr", "-q", url]) == 1
    assert capsys.readouterr().err == told


def test_a_file_system_that_needs_more_is_told_with_the_extra(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fsspec")
    assert main(["sr", "photos/0.png", "-o", "s3://bucket/out"]) == 2
    assert "pip install 'irestore[remote]'" in capsys.readouterr().err
    assert main(["sr", "photos/0.png", "-o", "nowhere://bucket/out"]) == 2
    assert capsys.readouterr().err.startswith("irestore: nowhere://bucket/out: Protocol not known")


def test_a_result_that_cannot_be_sent_fails_by_name(
    photos: Path, store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("access denied")

    monkeypatch.setattr(type(store), "put_file", refuse)
    assert main(["sr", "photos/0.png", "-q", "-o", "memory://bucket/out"]) == 1
    told = "photos/0.png: memory://bucket/out/0_x2.png: cannot be written: access denied"
    assert capsys.readouterr().err == f"irestore: {told}\n"
