"""HEIC and JPEG XL: read and written where their packages are installed, named where they are not."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from image_samples import noise, picture
from PIL import Image

from irestore.errors import ReadError, UsageError, install_command
from irestore.images import LoadOptions, Metadata, SaveOptions, encode, load, probe
from irestore.images.jxl import header

HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
JXL_START = b"\xff\x0a" + bytes(40)


@pytest.mark.parametrize(
    ("content", "module", "message"),
    [
        (HEIC_START, "pillow_heif", r"reading HEIC needs an extra: pip install 'irestore\[heic\]'"),
        (JXL_START, "pillow_jxl", r"reading JPEG XL needs an extra: pip install 'irestore\[jxl\]'"),
    ],
)
def test_a_missing_extra_is_named(content: bytes, module: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ReadError, match=message):
        load(io.BytesIO(content))


def test_a_missing_extra_is_named_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(UsageError, match=r"writing jxl needs an extra: pip install 'irestore\[jxl\]'"):
        encode(picture(4, 4), "jxl")


class TestJpegXl:
    @pytest.fixture(autouse=True)
    def extra(self) -> None:
        pytest.importorskip("pillow_jxl")

    @pytest.mark.parametrize(
        "size",
        [(1, 1), (8, 8), (256, 256), (257, 100), (40, 30), (640, 480), (1, 9000), (300, 200), (64, 36), (48, 96)],
    )
    def test_header_is_known_before_decoding(self, size: tuple[int, int]) -> None:
        content = encode(picture(*size), "jxl")
        found, depth = header(io.BytesIO(content))
        assert (found.height, found.width, depth) == (*size, 8)
        assert (probe(io.BytesIO(content)).height, probe(io.BytesIO(content)).width) == size

    def test_a_bomb_is_not_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = encode(picture(20, 30), "jxl")

        def never(*_: object, **__: object) -> None:
            raise AssertionError("decoded")

        monkeypatch.setattr("pillow_jxl.JpegXLImagePlugin.Decoder", never)
        with pytest.raises(ReadError, match="30 x 20 pixels are more than the 599 allowed"):
            load(io.BytesIO(content), LoadOptions(max_pixels=599))

    def test_an_animation_is_refused(self) -> None:
        """The header of an animation: not all default, extra fields, orientation 1, no size, no preview, animated."""
        bits = "1" + "00000" + "000" + "00000" + "0" + "1" + "000" + "0" + "0" + "1"
        value = int(bits[::-1], 2)
        content = b"\xff\x0a" + value.to_bytes(4, "little") + bytes(40)
        with pytest.raises(ReadError, match="animated JPEG XL"):
            load(io.BytesIO(content))

    def test_what_is_no_jpeg_xl_has_no_header(self) -> None:
        for content in (b"", b"\xff", b"\xff\x0a", JXL_START[:3], b"\x89PNG", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"):
            with pytest.raises(ReadError, match=r"JPEG XL .* damaged"):
                header(io.BytesIO(content))

    def test_metadata_travel(self) -> None:
        block = Image.Exif()
        block[0x010F] = "Abc"
        given = picture(8, 8, metadata=Metadata(exif=block.tobytes().removeprefix(b"Exif\0\0")))
        content = encode(given, "jxl", SaveOptions(provenance="irestore/1 test"))
        assert probe(io.BytesIO(content)).provenance == "irestore/1 test"
        assert probe(io.BytesIO(encode(given, "jxl"))).provenance is None
        exif = Image.Exif()
        exif.load(load(io.BytesIO(content)).metadata.exif or b"")
        assert exif[0x010F] == "Abc"


class TestHeic:
    @pytest.fixture(autouse=True)
    def extra(self) -> None:
        pytest.importorskip("pillow_heif").register_heif_opener()

    def test_orientation_is_applied_once(self) -> None:
        upright = Image.fromarray(np.kron(noise(2, 3, 3), np.ones((32, 32, 1), np.uint8)))
        for orientation in range(1, 9):
            tag = Image.Exif()
            tag[0x0112] = orientation
            stream = io.BytesIO()
            upright.save(stream, "HEIF", exif=tag.tobytes(), quality=95)
            turned = upright.copy()
            turned.info["exif"] = tag.tobytes()
            from PIL import ImageOps

            expected = np.asarray(ImageOps.exif_transpose(turned)) / 255
            found = load(io.BytesIO(stream.getvalue()))
            assert found.pixels.shape == expected.shape
            assert np.abs(found.pixels - expected).mean() < 0.05
            again = load(io.BytesIO(encode(found, "jpg")))
            assert again.pixels.shape == expected.shape

    @pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16"])
    def test_ten_bits_are_kept(self, mode: str) -> None:
        import pillow_heif

        channels = len(mode) - 3
        ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64, 1).repeat(channels, axis=2).astype(np.uint16)
        stream = io.BytesIO()
        file = pillow_heif.from_bytes(mode, (64, 64), ramp.tobytes())
        file.save(stream, format="HEIF", quality=-1, chroma=444)
        found = load(io.BytesIO(stream.getvalue()))
        assert found.depth == 16
        assert probe(io.BytesIO(stream.getvalue())).depth == 16
        assert len(np.unique(found.pixels[..., 1])) > 600
        assert np.abs(found.pixels - ramp[..., :3] / 65535).max() < 0.01
        assert (found.alpha is not None) == (channels == 4)


def test_how_to_install_an_extra_follows_from_how_irestore_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uv-receipt.toml").touch()
    for prefix, told in (
        ("/usr", "pip install 'irestore[heic]'"),
        ("/home/me/pipx/venvs/irestore", "pipx inject irestore 'pillow-heif>="),
        (str(tmp_path), "uv tool install 'irestore[heic]'"),
    ):
        monkeypatch.setattr(sys, "prefix", prefix)
        assert install_command("heic").startswith(told)
