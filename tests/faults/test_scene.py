"""Faults I1 to I15 and H7 at the lab and in the app: bad pictures leave the scene on show, odd ones work."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quantlab as ql
from quantlab.scenes.scene import Scene, Truth

RANDOM = np.random.default_rng(0)


def picture(height: int = 32, width: int = 32) -> np.ndarray:
    return RANDOM.integers(0, 255, (height, width, 3), dtype=np.uint8)


def encoded(kind: str, height: int = 32, width: int = 32) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture(height, width)).save(buffer, kind)
    return buffer.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims another size than it holds."""
    png = encoded("PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


FILES: dict[str, tuple[str, bytes]] = {
    "I1 zero bytes": ("empty.jpg", b""),
    "I2 text": ("text.jpg", b"no picture\n" * 50),
    "I3 truncated": ("cut.jpg", encoded("JPEG", 200, 200)[:3000]),
    "I4 900 million pixels": ("bomb.png", claiming(30_000, 30_000)),
    "I4 100 million pixels": ("large.png", claiming(10_000, 10_000)),
    "I7 a line": ("line.png", claiming(1, 10_000)),
    "I12 a newline": ("a\nerror: forged\x1b[2J.png", b""),
    "I12 300 bytes long": ("ü" * 120 + ".png", b""),
    "I15 a film of nothing": ("film.mp4", b""),
    "I15 no film": ("film.mp4", b"ftyp" * 50),
    "H7 a drawing with a script": ("a.svg", b"<svg><script>alert(1)</script></svg>"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_upload_that_cannot_be_used_leaves_everything_as_it_was(tab, tab_refuses, tmp_path: Path) -> None:
    """All in one tab, one after the other; and then a good picture in place of the bad one works."""
    for fault, (name, content) in FILES.items():
        path = tmp_path / name
        path.write_bytes(content)
        told = tab_refuses(tab.actions.upload(tab.page, [str(path)]))
        assert told["place"].startswith(str(path)[: -len(name)]), fault
        assert told["remedy"], fault
        assert told["place"].isprintable(), fault
    assert tab_refuses(tab.actions.upload(tab.page, []))["remedy"]
    former = tab.session.lab
    path = tmp_path / "text.jpg"
    path.write_bytes(encoded("JPEG"))
    list(tab.actions.upload(tab.page, [str(path)]))
    assert not tab.session.message
    assert tab.session.lab is not former
    assert tab.session.lab.recipe == former.recipe


@pytest.mark.parametrize("fault", ["I1 zero bytes", "I3 truncated", "I15 no film"])
def test_a_bad_file_is_refused_by_name_and_its_path_works_once_it_is_right(
    refused, make_lab, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "view.png"
    path.write_bytes(FILES[fault][1])
    with refused("view.png"):
        ql.load_scene([path])
    path.write_bytes(encoded("PNG"))
    assert make_lab(evaluation=ql.load_scene([path])).evaluate().full_precision.outputs


@pytest.mark.parametrize("count", [0, 10_000])
def test_i10_a_scene_of_no_or_far_too_many_pictures_is_refused(refused, tmp_path: Path, count: int) -> None:
    (tmp_path / "view.png").write_bytes(encoded("PNG"))
    with refused():
        ql.load_scene([tmp_path / "view.png"] * count)
    assert len(ql.load_scene([tmp_path / "view.png"] * 10_000, max_frames=2)) == 2


def test_i10_a_lab_without_scenes_is_refused(refused, make_lab) -> None:
    with refused("scenes"):
        make_lab(evaluation=[])
    with refused("scenes"):
        make_lab(calibration=[])


ODD: dict[str, Callable[[], list[np.ndarray]]] = {
    "I8 sides that no patch divides": lambda: [picture(33, 47)] * 2,
    "I9 mixed sizes": lambda: [picture(32, 50), picture(60, 20)],
    "I10 one picture": lambda: [picture()],
    "I13 all black": lambda: [np.zeros((32, 32, 3), np.uint8)] * 2,
    "I13 all equal": lambda: [picture()] * 2,
}


@pytest.mark.parametrize("case", ODD)
def test_odd_pictures_give_finite_numbers_and_clouds(lab, unchanged, make_lab, case: str) -> None:
    odd = Scene("odd", tuple(ODD[case]()))
    with unchanged():
        bench = make_lab(evaluation=odd, calibration=odd)
        evaluation = bench.evaluate()
        assert np.isfinite(bench.compare().errors).all()
        assert all(np.isfinite(list(evaluation.full_precision.outputs.values())))
        assert set(bench.diagnose().layers) == set(bench.structure.layers)


def test_i6_a_turned_picture_is_upright_and_its_truth_must_be_too(lab, refused, make_lab, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(24, 32)).save(tmp_path / "turned.jpg", exif=exif)
    scene = ql.load_scene([tmp_path / "turned.jpg"])
    assert scene.images[0].shape == (32, 24, 3)
    with refused("32 x 24"):
        Scene("turned", scene.images, truth(1, 24, 32))
    upright = Scene("turned", scene.images, truth(1, 32, 24))
    assert make_lab(evaluation=upright).evaluate().full_precision.outputs


def truth(views: int = 2, height: int = 32, width: int = 32, **changed: np.ndarray) -> Truth:
    known = {
        "camera_from_world": np.tile(np.eye(4), (views, 1, 1)),
        "intrinsics": np.tile(np.diag([30.0, 30.0, 1.0]), (views, 1, 1)),
        "depth": np.ones((views, height, width)),
        "points": np.ones((views, height, width, 3)),
    }
    return Truth(**(known | changed))


NO_POSES = {
    "scaled": 2 * np.eye(4),
    "mirrored": np.diag([-1.0, 1, 1, 1]),
    "not a number": np.full((4, 4), np.nan),
    "transposed": np.eye(4) + np.eye(4, k=-3),
}


@pytest.mark.parametrize("fault", NO_POSES)
def test_i14_a_truth_that_is_no_pose_is_refused_by_its_image(refused, fault: str) -> None:
    with refused("camera_from_world"):
        truth(camera_from_world=np.stack([np.eye(4), NO_POSES[fault]]))
    assert len(truth()) == 2


def test_i14_fewer_poses_than_images_are_refused(refused) -> None:
    with refused("2 images but 1"):
        Scene("room", (picture(), picture()), truth(1))


def test_i11_i12_pictures_of_any_name_come_in_the_order_people_count(unchanged, tmp_path: Path) -> None:
    names = ["1 só.png", "2 東京.png", "10 \N{SNOWFLAKE}.png", "20\nline.png"]
    for name in reversed(names):
        (tmp_path / name).write_bytes(encoded("PNG"))
    with unchanged():
        loaded = ql.load_scene(tmp_path)
    for name, image in zip(names, loaded.images, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(tmp_path / name)))
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "same.png").write_bytes(encoded("PNG"))
    first, second = ql.load_scene([folder / "same.png" for folder in folders]).images
    assert not np.array_equal(first, second)


def test_a_scene_that_the_network_cannot_take_leaves_the_other_scenes_of_a_lab_usable(
    refused, make_lab, scene
) -> None:
    bench = make_lab(evaluation=[scene, Scene("thread", (picture(1, 2000),))])
    with refused("too narrow", "thread, image 1"):
        bench.compare(1)
    assert bench.compare(0).point_error >= 0
