"""GLB files read back: by a small reader of our own from the glTF 2.0 text, and by three.js in a browser."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from quantlab.errors import NumericError, StorageError
from quantlab.geometry.cameras import centres, project
from quantlab.geometry.glb import NamedCloud, glb_bytes, write_glb

TYPES = {5126: ("<f4", 4), 5121: ("u1", 1)}
WIDTHS = {"VEC3": 3, "VEC4": 4}


def read_glb(data: bytes):
    """The JSON and the binary chunk, with the checks that the format asks a reader to make."""
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    document = json.loads(data[20 : 20 + size])
    rest, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    binary = data[28 + size :]
    assert len(binary) == rest == document["buffers"][0]["byteLength"]
    return document, binary


def values(document, binary, number):
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    kind, item = TYPES[accessor["componentType"]]
    width = WIDTHS[accessor["type"]]
    assert view["byteLength"] == accessor["count"] * width * item
    assert view["byteOffset"] % 4 == 0
    flat = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"])
    return flat.reshape(accessor["count"], width)


def named(document, name):
    return next(node for node in document["nodes"] if node["name"] == name)


def cloud(name="full precision", seed=0, count=40):
    random = np.random.default_rng(seed)
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[1, :3, :3] = Rotation.from_euler("xyz", [0.3, -0.5, 0.2]).as_matrix()
    pose[1, :3, 3] = [0.4, -0.1, 0.7]
    lens = np.tile(np.array([[80.0, 0, 40], [0, 90.0, 30], [0, 0, 1]]), (2, 1, 1))
    points = random.normal(loc=(0, 0, 4), size=(count, 3))
    colours = random.integers(0, 256, (count, 3), dtype=np.uint8)
    return NamedCloud(name, points, colours, pose, lens, (80, 60))


def test_both_clouds_come_back_as_two_named_nodes_with_y_up():
    clouds = [cloud(), cloud("quantized", seed=1)]
    document, binary = read_glb(glb_bytes(clouds))
    top = [document["nodes"][index]["name"] for index in document["scenes"][0]["nodes"]]
    assert top == ["full precision", "quantized"]
    for given in clouds:
        mesh = document["meshes"][named(document, f"{given.name} points")["mesh"]]["primitives"][0]
        assert mesh["mode"] == 0
        found = values(document, binary, mesh["attributes"]["POSITION"])
        np.testing.assert_array_equal(found, (given.points * [1, -1, -1]).astype(np.float32))
        bounds = document["accessors"][mesh["attributes"]["POSITION"]]
        np.testing.assert_array_equal(bounds["min"], found.min(axis=0))
        np.testing.assert_array_equal(bounds["max"], found.max(axis=0))


def test_colours_are_light_as_the_format_has_it_and_come_back_to_within_seven_codes():
    given = cloud(count=500)
    document, binary = read_glb(glb_bytes([given]))
    mesh = document["meshes"][0]["primitives"][0]
    accessor = document["accessors"][mesh["attributes"]["COLOR_0"]]
    assert accessor["normalized"] is True
    paint = values(document, binary, mesh["attributes"]["COLOR_0"])
    assert (paint[:, 3] == 255).all()
    light = paint[:, :3] / 255
    back = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    error = np.abs(back - given.colours)
    assert error.max() < 7.5
    assert error[given.colours > 64].max() < 2


def test_a_camera_of_the_file_sees_a_point_where_the_camera_saw_it():
    given = cloud()
    document, _ = read_glb(glb_bytes([given]))
    point = np.array([0.2, -0.3, 4.0])
    flipped = np.append(point * [1, -1, -1], 1)
    for index in range(2):
        node = named(document, f"camera {index + 1}")
        world_from_camera = np.array(node["matrix"]).reshape(4, 4).T
        x, y, z, _ = np.linalg.inv(world_from_camera) @ flipped
        lens = document["cameras"][node["camera"]]["perspective"]
        tangent = np.tan(lens["yfov"] / 2)
        across, up = (
            x / -z / (tangent * lens["aspectRatio"]),
            y / -z / tangent,
        )  # -1 to 1, the picture's edges
        pixel, depth = project(point, given.intrinsics[index], given.camera_from_world[index])
        assert depth == pytest.approx(-z)
        assert pixel == pytest.approx([(1 + across) * 40, (1 - up) * 30])


def test_cameras_are_drawn_as_lines_from_where_they_stand():
    given = cloud()
    document, binary = read_glb(glb_bytes([given]))
    mesh = document["meshes"][named(document, "full precision cameras")["mesh"]]["primitives"][0]
    assert mesh["mode"] == 1
    ends = values(document, binary, mesh["attributes"]["POSITION"]).reshape(2, -1, 2, 3)
    eyes = centres(given.camera_from_world) * [1, -1, -1]
    np.testing.assert_allclose(ends[:, :4, 0], eyes[:, None].repeat(4, 1), atol=1e-6)
    lengths = np.linalg.norm(ends[:, 4:8, 0] - ends[:, 4:8, 1], axis=-1)
    np.testing.assert_allclose(lengths[:, 0] / lengths[:, 1], (80 / 80) / (60 / 90), rtol=1e-5)


def test_a_camera_that_is_none_is_left_out_and_the_others_keep_their_numbers():
    given = cloud()
    pose = given.camera_from_world.copy()
    pose[0, 0, 0] = np.nan
    document, _ = read_glb(glb_bytes([NamedCloud("a", given.points, given.colours, pose)]))
    assert [camera["name"] for camera in document["cameras"]] == ["camera 2"]
    nobody, _ = read_glb(glb_bytes([NamedCloud("a", given.points, given.colours, pose[:1])]))
    assert "cameras" not in nobody
    bare, _ = read_glb(glb_bytes([NamedCloud("a", given.points, given.colours)]))
    assert [node["name"] for node in bare["nodes"]] == ["a points", "a"]


def test_bad_clouds_are_refused_and_leave_an_older_file_whole(tmp_path):
    path = tmp_path / "clouds.glb"
    write_glb(path, [cloud()])
    before, good = path.read_bytes(), cloud()
    broken = (
        [],
        [NamedCloud("a", np.zeros((0, 3)), np.zeros((0, 3), np.uint8))],
        [NamedCloud("a", good.points * np.nan, good.colours)],
        [NamedCloud("a", good.points * 1e300, good.colours)],
    )
    for clouds in broken:
        with pytest.raises(NumericError):
            write_glb(path, clouds)
    for colours in (good.colours[1:], good.colours.astype(np.float32)):
        with pytest.raises(StorageError):
            write_glb(path, [NamedCloud("a", good.points, colours)])
    with pytest.raises(StorageError):
        write_glb(tmp_path / "absent" / "clouds.glb", [good])
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["clouds.glb"]


THREE = Path(__file__).parents[2] / "quantlab" / "viewer" / "js" / "node_modules" / "three"
PAGE = """<!doctype html><script type="importmap">{"imports": {"three": "/build/three.module.js"}}</script>
<script type="module">
import { GLTFLoader } from "/examples/jsm/loaders/GLTFLoader.js";
const { scene, cameras } = await new GLTFLoader().loadAsync("/clouds.glb");
scene.updateMatrixWorld(true);
const seen = (c) => [c.name, c.fov, c.aspect, c.matrixWorld.elements.slice(12, 15)];
const found = { cameras: cameras.map(seen), nodes: [] };
scene.traverse((o) => o.geometry && found.nodes.push({ type: o.type, name: o.name, lit: o.material.type,
  position: [...o.geometry.attributes.position.array], color: [...(o.geometry.attributes.color?.array ?? [])] }));
window.found = found;
</script>"""


@pytest.mark.browser
def test_three_js_reads_the_file(page):
    if not (THREE / "examples" / "jsm" / "loaders" / "GLTFLoader.js").exists():
        pytest.skip("three.js is not installed: npm ci in quantlab/viewer/js")
    given = cloud()
    data = glb_bytes([given, cloud("quantized", seed=1)])

    def serve(route):
        path = route.request.url.removeprefix("http://localhost:1")
        if path == "/":
            route.fulfill(body=PAGE, content_type="text/html")
        elif path == "/clouds.glb":
            route.fulfill(body=data, content_type="model/gltf-binary")
        elif (THREE / path.lstrip("/")).is_file():
            route.fulfill(path=THREE / path.lstrip("/"), content_type="text/javascript")
        else:
            route.fulfill(status=404)

    page.route("http://localhost:1/**", serve)
    page.goto("http://localhost:1/")
    page.wait_for_function("() => window.found", timeout=20_000)
    found = page.evaluate("() => window.found")
    kinds = [(node["type"], node["lit"]) for node in found["nodes"]]
    assert kinds == [("Points", "PointsMaterial"), ("LineSegments", "LineBasicMaterial")] * 2
    position = np.array(found["nodes"][0]["position"]).reshape(-1, 3)
    np.testing.assert_allclose(position, given.points * [1, -1, -1], atol=1e-6)
    name, fov, aspect, eye = found["cameras"][1]
    assert name.startswith("camera")
    assert fov == pytest.approx(2 * np.degrees(np.arctan(30 / 90)))
    assert aspect == pytest.approx((80 / 80) / (60 / 90))
    np.testing.assert_allclose(eye, centres(given.camera_from_world)[1] * [1, -1, -1], atol=1e-6)
