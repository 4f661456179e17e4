"""Picture files of every kind people and strangers send (faults I1-I9, I12, I13, H7), drawn here."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageOps

from quantlab.errors import SceneError
from quantlab.scenes import images
from quantlab.scenes.images import list_folder, measure, natural_key, read_image, read_images

COLOURS = ((200, 30, 40), (20, 160, 60), (30, 50, 220), (240, 220, 30))


def quarters(width: int = 24, height: int = 16) -> Image.Image:
    """Four coloured quarters: any turn, mirror or channel swap shows."""
    drawn = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(COLOURS):
        row, col = divmod(index, 2)
        drawn[row * height // 2 : (row + 1) * height // 2, col * width // 2 : (col + 1) * width // 2] = colour
    return Image.fromarray(drawn)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size it does not hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "gif", "ppm"])
def test_every_named_lossless_format_comes_back_exactly(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    quarters().save(path, **({"lossless": True} if suffix == "webp" else {}))
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, np.asarray(quarters()))
    assert picture.pixels.flags.c_contiguous
    assert picture.notes == ()


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpegs_of_any_mode_keep_their_colours(tmp_path, mode):
    path = tmp_path / "p.jpg"
    quarters(32, 32).convert(mode).save(path, quality=95)
    wanted = np.asarray(quarters(32, 32).convert(mode).convert("RGB"), int)
    assert np.abs(read_image(path).pixels[4:12, 4:12] - wanted[4:12, 4:12]).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_turn_is_the_one_pillow_makes(tmp_path, orientation):
    path = tmp_path / "p.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(path, exif=exif)
    pixels = read_image(path).pixels
    np.testing.assert_array_equal(pixels, np.asarray(ImageOps.exif_transpose(Image.open(path))))
    assert pixels.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))


def test_transparent_pixels_become_white_paper(tmp_path):
    path = tmp_path / "p.png"
    drawn = quarters().convert("RGBA")
    drawn.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 12, axis=1).repeat(16, axis=0)))
    drawn.save(path)
    pixels = read_image(path).pixels
    assert (pixels[:, :12] == 255).all()
    np.testing.assert_array_equal(pixels[:, 12:], np.asarray(quarters())[:, 12:])


def test_a_transparent_palette_becomes_white_paper_too(tmp_path):
    path = tmp_path / "p.gif"
    flat = quarters().convert("P", palette=Image.Palette.ADAPTIVE)
    flat.save(path, transparency=flat.getpixel((0, 0)))
    pixels = read_image(path).pixels
    assert (pixels[:8, :12] == 255).all()
    np.testing.assert_array_equal(pixels[8:], np.asarray(quarters())[8:])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped_to_white(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    grey = np.linspace(0, 65535, 16 * 24).reshape(16, 24).astype(np.uint16)
    Image.fromarray(grey).save(path)
    pixels = read_image(path).pixels
    assert pixels.shape == (16, 24, 3)
    assert np.abs(pixels[..., 1] - grey / 257.0).max() <= 0.5


def test_floats_of_another_range_than_a_picture_are_refused(tmp_path):
    path = tmp_path / "p.tiff"
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(path)
    assert (read_image(path).pixels == 128).all()
    Image.fromarray(np.full((16, 16), 7.5, np.float32)).save(path)
    with pytest.raises(SceneError):
        read_image(path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_an_animation_gives_its_first_frame_and_says_so(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    extra = {"lossless": True} if suffix == "webp" else {}
    quarters().save(path, save_all=True, append_images=[Image.new("RGB", (24, 16), "white")], **extra)
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, np.asarray(quarters()))
    assert "first of 2 frames" in picture.notes


@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_a_picture_of_one_colour_is_taken_and_noted(tmp_path, colour):
    path = tmp_path / "p.png"
    Image.new("RGB", (20, 20), colour).save(path)
    assert read_image(path).notes == ("one colour throughout",)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    quarters().save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"no picture at all\n" * 20, "no picture"),
    "page.png": (b"<!DOCTYPE html><html><body>404</body></html>", "no picture"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "no picture"),
    "cut.jpg": (jpeg()[: len(jpeg()) // 2], "cut short"),
    "cut.png": (png()[: len(png()) - 30], "cut short"),
    "head.png": (png()[:20], "read|cut short"),
    "bomb.png": (png_of_size(30_000, 30_000), "million pixels|million"),
    "large.png": (png_of_size(10_000, 10_000), "million"),
    "line.png": (png_of_size(1, 10_000), "too narrow"),
    "strip.png": (png_of_size(10_000, 100), "too narrow"),
    "point.png": (png_of_size(1, 1), "too small"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
    "drawing.png": (b"<?xml version='1.0'?>\n<SVG onload='alert(1)'/>", "SVG"),
    "print.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "no picture"),
    "weights.png": (b"PK\x03\x04" + b"\0" * 100, "no picture"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_file_is_refused_by_name_and_with_a_remedy(tmp_path, name):
    content, words = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SceneError, match=words) as caught:
        read_images([path])
    assert caught.value.place == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_give_a_picture_or_our_error(tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(jpeg() if seed % 2 else png())
    for place in rng.integers(0, len(content), 6):
        content[place] = rng.integers(0, 256)
    path = tmp_path / "p.png"
    path.write_bytes(content)
    try:
        pixels = read_image(path).pixels
    except SceneError:
        return
    assert pixels.shape[2] == 3


def test_whichever_byte_of_an_animation_is_damaged_it_gives_a_picture_or_our_error(tmp_path):
    path = tmp_path / "p.gif"
    Image.new("RGB", (24, 16), "red").save(path, save_all=True, append_images=[Image.new("RGB", (24, 16))])
    whole, taken = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + b"\1" + whole[place + 1 :])
        with suppress(SceneError):
            taken += read_image(path).pixels.shape == (16, 24, 3)
    assert 0 < taken < len(whole)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path, tmp_path / ("x" * 300), tmp_path / "null\0.png"):
        with pytest.raises(SceneError):
            read_image(path)


def test_the_size_is_read_without_the_pixels(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(png_of_size(5000, 4000))
    assert measure(path) == (5000, 4000)


def test_all_pictures_of_a_scene_together_are_limited_before_any_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SCENE_BYTES", 3 * 24 * 16 * 2)
    monkeypatch.setattr(images, "read_image", lambda path: pytest.fail("decoded"))
    path = tmp_path / "p.png"
    quarters().save(path)
    with pytest.raises(SceneError, match="3 pictures"):
        read_images([path] * 3)


def test_a_file_over_the_limit_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "FILE_BYTES", 10)
    path = tmp_path / "p.png"
    quarters().save(path)
    with pytest.raises(SceneError, match="MB"):
        read_image(path)


def test_names_sort_as_people_count():
    names = [
        "b.png",
        "image_10.png",
        "Image_2.png",
        "image_1.png",
        "image_01b.png",
        "é2",
        "e\u03012",
        "image_" + "9" * 240,
    ]
    ordered = sorted(names, key=natural_key)
    assert ordered[:5] == ["b.png", "image_1.png", "image_01b.png", "Image_2.png", "image_10.png"]
    assert ordered[5].endswith("9")
    shuffled = [names[index] for index in (5, 2, 7, 0, 3, 6, 1, 4)]
    assert sorted(shuffled, key=natural_key) == ordered


def test_a_folder_lists_pictures_only_and_names_foreign_ones(tmp_path):
    for name in (
        "10.png",
        "2.JPG",
        "notes.txt",
        "._2.jpg",
        "Thumbs.db",
        "a.heic",
        "b.svg",
        "\n3.png",
        "ü.png",
    ):
        (tmp_path / name).touch()
    (tmp_path / "4.png").mkdir()
    pictures, foreign = list_folder(tmp_path)
    assert [path.name for path in pictures] == ["2.JPG", "10.png", "\n3.png", "ü.png"]
    assert foreign == ["a.heic", "b.svg"]


def test_a_newline_in_a_name_cannot_forge_a_line(tmp_path):
    path = tmp_path / "a\nerror: all is well.png"
    path.write_bytes(b"")
    with pytest.raises(SceneError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
