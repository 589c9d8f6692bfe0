"""Which damaged picture belongs to which clean one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irestore.errors import UsageError
from irestore.pairing import natural, pairs, pictures


@pytest.fixture
def folders(tmp_path: Path):
    """Two folders with empty files of the names given."""

    def make(left: list[str], right: list[str]) -> tuple[Path, Path]:
        for folder, names in (("hr", left), ("lr", right)):
            (tmp_path / folder).mkdir()
            for name in names:
                (tmp_path / folder / name).touch()
        return tmp_path / "hr", tmp_path / "lr"

    return make


def names(found: list[tuple[Path, Path]]) -> list[tuple[str, str]]:
    return [(clean.name, damaged.name) for clean, damaged in found]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_sort_as_numbers(numbers):
    assert sorted((f"img{n}.png" for n in numbers), key=natural) == [f"img{n}.png" for n in sorted(numbers)]


def test_pictures_are_those_in_the_folder_in_natural_order(folders):
    folder, _ = folders(["10.png", "9.png", "2.JPG", ".hidden.png", "notes.txt", "Thumbs.db"], [])
    (folder / "below").mkdir()
    assert [path.name for path in pictures(folder)] == ["2.JPG", "9.png", "10.png"]


def test_equal_names_are_pairs_whatever_their_format(folders):
    found = pairs(*folders(["b10.png", "b9.png", "a.png"], ["a.jpg", "b9.jpg", "b10.jpg"]))
    assert names(found) == [("a.png", "a.jpg"), ("b9.png", "b9.jpg"), ("b10.png", "b10.jpg")]


@pytest.mark.parametrize(
    ("clean", "damaged"),
    [
        ("0801.png", "0801x4.png"),
        ("img_001_SRF_4_HR.png", "img_001_SRF_4_LR.png"),
        ("norain-001.png", "rain-001.png"),
        ("butterfly_GT.bmp", "Butterfly_noisy.png"),
    ],
)
def test_what_sets_add_to_names_is_seen_through(folders, clean, damaged):
    assert names(pairs(*folders([clean, "other.png"], ["other.png", damaged]))) == [
        (clean, damaged),
        ("other.png", "other.png"),
    ]


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (["a.png", "b.png"], ["a.png"], r"hr: b\.png without a picture of that name in .*lr"),
        (
            ["a.png"],
            ["a.png", "b1.png", "b2.png", "b3.png", "b4.png"],
            r"lr: b1\.png, b2\.png, b3\.png and 1 more without",
        ),
        (["1.png", "2.png"], ["3.png", "4.png"], "without a picture of that name"),
        (["a.png", "a.jpg"], ["a.png"], "several pictures of one name"),
        ([], ["a.png"], "hr: there is no picture in this folder"),
        (["a.png"], ["a.txt"], "lr: there is no picture in this folder"),
    ],
)
def test_a_picture_without_its_partner_is_named(folders, left, right, message):
    with pytest.raises(UsageError, match=message):
        pairs(*folders(left, right))


def test_a_folder_that_is_none_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: is a file, not a folder"):
        pictures(tmp_path / "file")
    with pytest.raises(UsageError, match="no such folder"):
        pictures(tmp_path / "nowhere")
