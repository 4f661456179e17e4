"""load_scene and load_scenes: every way to name a scene, and every way to get it wrong (faults I9-I12)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from quantlab.errors import SceneError
from quantlab.geometry.cameras import unproject
from quantlab.scenes.load import evenly, load_scene, load_scenes


def draw(path, level: int = 0, size: tuple[int, int] = (24, 16)) -> str:
    shade = np.full((size[1], size[0], 3), level, np.uint8)
    shade[0, 0] = 255 - level
    Image.fromarray(shade).save(path)
    return str(path)


def levels(scene) -> list[int]:
    return [int(image[-1, -1, 0]) for image in scene.images]


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "kitchen"
    place.mkdir()
    for number in (1, 2, 10, 20, 100):
        draw(place / f"image_{number}.png", number)
    (place / "notes.txt").write_text("not a picture")
    return place


def test_a_folder_is_a_scene_in_natural_order_named_after_it(folder):
    scene = load_scene(folder)
    assert scene.name == "kitchen"
    assert levels(scene) == [1, 2, 10, 20, 100]
    assert scene.truth is None
    assert levels(load_scene(str(folder))) == levels(scene)


def test_fewer_pictures_are_taken_evenly_and_said(folder):
    scene = load_scene(folder, max_frames=3)
    assert levels(scene) == [1, 10, 100]
    assert "3 of 5 pictures, evenly spaced" in scene.notes
    assert levels(load_scene(folder, max_frames=1)) == [1]
    assert levels(load_scene(folder, max_frames=9)) == [1, 2, 10, 20, 100]


def test_a_list_keeps_its_order_and_equal_names_stay_apart(tmp_path):
    files = []
    for level in (30, 20, 10):
        (tmp_path / str(level)).mkdir()
        files.append(draw(tmp_path / str(level) / "photo.png", level, (24 + level, 16)))
    scene = load_scene(files)
    assert levels(scene) == [30, 20, 10]
    assert [image.shape for image in scene.images] == [(16, 54, 3), (16, 44, 3), (16, 34, 3)]


def test_one_file_is_a_scene_of_one_picture(tmp_path):
    path = draw(tmp_path / "só 東京 ❄.png", 7)
    for source in (path, [path]):
        assert levels(load_scene(source)) == [7]


def test_a_bad_file_among_good_ones_is_named(folder):
    (folder / "image_3.png").write_bytes(b"")
    with pytest.raises(SceneError, match=r"image_3\.png"):
        load_scene(folder)


def test_formats_that_are_not_read_are_noted_and_not_passed_over(folder):
    (folder / "a.heic").touch()
    assert "a.heic" in load_scene(folder).notes[-1]


def test_a_film_gives_eight_frames_or_as_many_as_asked(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "walk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert len(load_scene(path)) == 8
    assert len(load_scene([path], max_frames=3)) == 3
    assert load_scene(path).name == "walk.mp4"
    with pytest.raises(SceneError, match="one scene"):
        load_scene([path, path])


def test_the_demo_is_the_same_room_each_time_and_its_truth_is_consistent():
    scene, again = load_scene("demo"), load_scene("demo")
    assert scene.name == "demo"
    assert len(scene) == 4
    for first, second in zip(scene.images, again.images, strict=True):
        np.testing.assert_array_equal(first, second)
    truth = scene.truth
    lifted = unproject(truth.depth, truth.intrinsics, truth.camera_from_world)
    np.testing.assert_allclose(lifted[truth.mask], truth.points[truth.mask], atol=1e-4)


def test_rooms_are_as_many_as_asked_and_differ():
    rooms = load_scenes("rooms:3", views=2, seed=7)
    assert [len(room) for room in rooms] == [2, 2, 2]
    assert not np.array_equal(rooms[0].images[0], rooms[1].images[0])
    np.testing.assert_array_equal(load_scenes("rooms:1", views=2, seed=7)[0].images, rooms[0].images)
    assert len(load_scene("rooms:1")) == 4


def test_anything_else_is_one_scene_in_a_list_and_a_scene_is_itself(folder):
    scene = load_scene(folder)
    assert load_scene(scene) is scene
    assert load_scenes(scene)[0] is scene
    assert len(load_scenes(folder)) == 1


@pytest.mark.parametrize(
    "source",
    [
        *("demmo", "", "/absent/place", "x" * 5000, "null\0", "http://example.org/a.mp4"),
        *("rooms:0", "rooms:-1", "rooms:x", "rooms:1e9", "rooms:99999999", "rooms:2"),
        *(7, None, b"demo", [], [3], [""], ["absent.png"]),
    ],
)
def test_what_names_no_scene_is_refused_with_a_remedy(source):
    with pytest.raises(SceneError) as caught:
        load_scene(source)
    assert caught.value.remedy


def test_a_near_miss_is_answered_with_the_name():
    with pytest.raises(SceneError, match="Did you mean 'demo'"):
        load_scene("dmeo")


def test_a_folder_without_pictures_points_to_where_they_are(tmp_path):
    with pytest.raises(SceneError, match="Put"):
        load_scene(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(SceneError, match="'images'"):
        load_scene(tmp_path)


def test_very_many_pictures_are_refused_until_a_number_is_given(tmp_path):
    first = draw(tmp_path / "p.png")
    with pytest.raises(SceneError, match="max_frames"):
        load_scene([first] * 10_000)
    assert len(load_scene([first] * 10_000, max_frames=2)) == 2


@pytest.mark.parametrize("max_frames", [0, -1, True, 2.0, "8"])
def test_a_number_of_frames_that_is_none_is_refused(folder, max_frames):
    with pytest.raises(SceneError, match="frames"):
        load_scene(folder, max_frames=max_frames)


@pytest.mark.parametrize("views", [0, -1, True, 2.5, 10**9])
def test_a_number_of_views_that_is_none_is_refused(views):
    with pytest.raises(SceneError, match="views"):
        load_scenes("rooms:1", views=views)


@pytest.mark.parametrize(("total", "count"), [(10, 1), (10, 2), (10, 3), (10, 10), (7, 6), (3, 9)])
def test_an_even_choice_has_no_doubles_and_keeps_the_ends(total, count):
    chosen = evenly(list(range(total)), count)
    assert len(set(chosen)) == min(total, count)
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert count == 1 or chosen[-1] == total - 1
