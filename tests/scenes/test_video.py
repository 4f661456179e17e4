"""Films made here: frames evenly spaced, turned as phones say, and no other file reached (fault I15)."""

from __future__ import annotations

import struct

import av
import numpy as np
import pytest

from quantlab.errors import SceneError
from quantlab.scenes import video
from quantlab.scenes.video import read_video

WIDTH, HEIGHT = 64, 48


def film(path, count: int, *, level=lambda index: index) -> None:
    """A film whose frames have the grey level of their number, and a white upper left quarter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 4_000_000
        for index in range(count):
            drawn = np.full((HEIGHT, WIDTH, 3), level(index), np.uint8)
            drawn[: HEIGHT // 2, : WIDTH // 2] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def levels(images) -> list[float]:
    return [float(image[-8:, -8:].mean()) for image in images]


@pytest.mark.parametrize("count", [40, 200])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_come_evenly_from_the_whole_film_in_order(tmp_path, count, suffix):
    path = tmp_path / f"film.{suffix}"
    film(path, count)
    images, notes = read_video(path, 8)
    assert len(images) == 8
    assert all(image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8 for image in images)
    wanted = (np.arange(8) + 0.5) * count / 8
    np.testing.assert_allclose(levels(images), wanted, atol=count / 16 + 3)
    assert "8 frames" in notes[0]


def test_seeking_and_decoding_agree(tmp_path, monkeypatch):
    path = tmp_path / "film.mp4"
    film(path, 120)
    sought, _ = read_video(path, 5)
    monkeypatch.setattr(video, "SEEK_FROM", 10**6)
    decoded, _ = read_video(path, 5)
    np.testing.assert_allclose(levels(sought), levels(decoded), atol=120 / 10 + 3)


def test_a_short_film_gives_all_its_frames(tmp_path):
    path = tmp_path / "film.mp4"
    film(path, 3, level=lambda index: 60 * index)
    images, _ = read_video(path, 8)
    np.testing.assert_allclose(levels(images), [0, 60, 120], atol=4)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((0, 1, -1, 0), (slice(0, 8), slice(-8, None))),
        ((-1, 0, 0, -1), (slice(-8, None), slice(-8, None))),
        ((0, -1, 1, 0), (slice(-8, None), slice(0, 8))),
    ],
)
def test_the_turn_that_a_phone_writes_is_made(tmp_path, matrix, corner):
    path = tmp_path / "film.mp4"
    film(path, 4)
    content = bytearray(path.read_bytes())
    # the display matrix of the track header: 16.16 fixed point, after 40 bytes of other fields
    start = content.find(b"tkhd") + 44
    a, b, c, d = (65536 * value for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    image = read_video(path, 1)[0][0]
    assert image.shape[:2] == ((HEIGHT, WIDTH) if a else (WIDTH, HEIGHT))
    assert image[corner].mean() > 230


def test_files_that_are_no_film_are_refused(tmp_path):
    good = tmp_path / "good.mp4"
    film(good, 5)
    for name, content in {
        "empty.mp4": b"",
        "text.mp4": b"no film\n" * 100,
        "cut.mp4": good.read_bytes()[:200],
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{good}\n#EXT-X-ENDLIST\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile '{good}'\n".encode(),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SceneError) as caught:
            read_video(path)
        assert caught.value.place == str(path)
        assert caught.value.remedy
    with pytest.raises(SceneError):
        read_video(tmp_path / "absent.mp4")


def test_a_film_without_frames_is_refused(tmp_path):
    path = tmp_path / "film.avi"
    film(path, 0)
    with pytest.raises(SceneError, match=r"no frames|cannot be read|no picture"):
        read_video(path)


def test_frames_over_the_limit_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "film.mp4"
    film(path, 5)
    monkeypatch.setattr(video, "IMAGE_PIXELS", 100)
    with pytest.raises(SceneError, match="too much"):
        read_video(path)
