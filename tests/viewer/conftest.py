"""A synthetic room, a small site and a real browser that refuses every other address; no test stands here."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantlab.viewer.embed import static_folder
from quantlab.viewer.pack import CameraData, CloudData, PackedClouds, pack_clouds
from quantlab.viewer.pictures import encode_pictures

PAGE = """<!doctype html><meta charset="utf-8"><title>viewer</title><link rel="icon" href="data:,">
<body style="margin:0;height:100vh"><div id="v" style="height:100%"></div>
<script type="module">
import { mount, render } from "/viewer.js";
window.render = render;
window.viewer = mount(document.getElementById("v"), { theme: "light" });
window.events = [];
viewer.onEvent((event) => events.push(event));
window.remount = () => {
  viewer.dispose();
  events.length = 0;
  window.viewer = mount(document.getElementById("v"), { theme: "light" });
  viewer.onEvent((event) => events.push(event));
};
window.load = async (name) => viewer.setPayload(await (await fetch(name)).arrayBuffer());
</script>"""


def pose(azimuth: float, pitch: float = 0.25) -> NDArray[np.float64]:
    """camera_from_world [4, 4] of a camera 2.6 m from the middle of the room, looking in; world z is up."""
    back = np.array(
        [math.cos(azimuth) * math.cos(pitch), math.sin(azimuth) * math.cos(pitch), math.sin(pitch)]
    )
    right = np.cross(-back, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rows = np.stack([right, np.cross(-back, right), -back])
    matrix = np.eye(4)
    matrix[:3, :3] = rows
    matrix[:3, 3] = -rows @ (back * 2.6 + [0, 0, -0.3])
    return matrix


def cast(
    origin: NDArray[np.float64], rays: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Points [N, 3] and colours [N, 3] where rays meet a 6 x 6 x 3 m room with three boxes in it."""
    boxes = [
        ([-3, -3, -1], [3, 3, 2], (205, 200, 190)),
        ([-0.6, -0.5, -1], [0.5, 0.6, -0.3], (176, 96, 64)),
        ([0.7, -1.6, -1], [1.3, -1.0, 0.4], (72, 120, 116)),
        ([-1.8, 0.9, -1], [-1.0, 1.5, 0.0], (214, 178, 84)),
    ]
    nearest = np.full(len(rays), np.inf)
    colors = np.zeros((len(rays), 3))
    for index, (low, high, colour) in enumerate(boxes):
        with np.errstate(divide="ignore"):
            sides = (np.stack([low, high])[:, None] - origin) / rays
        enter, leave = sides.min(0).max(1), sides.max(0).min(1)
        at = leave if index == 0 else enter
        hit = (leave > np.maximum(enter, 0)) & (at > 0) & (at < nearest)
        nearest[hit] = at[hit]
        point = origin + rays[hit] * at[hit, None]
        check = (np.floor(point * 2).sum(1) % 2)[:, None] * 22
        axis = np.argmin(np.abs(sides - at[:, None]).min(0)[hit], axis=1)
        colors[hit] = np.array(colour) * np.array([1.0, 0.9, 0.78])[axis][:, None] - check
    return origin + rays * nearest[:, None], np.clip(colors, 0, 255).astype(np.uint8)


def room(side: int = 96, views: int = 4, noise: float = 0.0, tilt: float = 0.0) -> CloudData:
    """A room seen by ``views`` cameras, in the axes of the first one; noise (metres) and tilt (radians) spoil it."""
    half = math.tan(math.radians(35))
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 - 1] * 2)
    rays = np.stack([x * half, y * half, np.ones_like(x)], -1).reshape(-1, 3)
    first = pose(0.6)
    points, colors, poses = [], [], []
    for view in range(views):
        camera = pose(0.6 + 0.35 * view + (tilt if view else 0))
        rotation = camera[:3, :3]
        found, colour = cast(-rotation.T @ camera[:3, 3], rays @ rotation)
        points.append(found @ first[:3, :3].T + first[:3, 3])
        colors.append(colour)
        poses.append(camera @ np.linalg.inv(first))
    cloud = np.concatenate(points)
    spoil = np.random.default_rng(0).normal(size=cloud.shape) * noise * (cloud[:, :1] > 0.3)
    scale = np.tile(
        [[side / 2 / half, 0, side / 2], [0, side / 2 / half, side / 2], [0, 0, 1]], (views, 1, 1)
    )
    return CloudData(
        (cloud + spoil).astype(np.float32),
        np.concatenate(colors),
        1 / (1 + np.abs(cloud[:, 0])),
        np.repeat(np.arange(views), side * side),
        CameraData(np.array(poses), scale, (side, side)),
    )


def spoiled(scale: float = 1.0, away: float = 0.0, focal: float = 1.0) -> CloudData:
    """A small room with points and cameras in other units, its cameras moved away, or their focal lengths changed."""
    cloud = room(side=40, views=2)
    assert cloud.cameras is not None
    poses = np.array(cloud.cameras.camera_from_world)
    poses[:, :3, 3] = scale * (poses[:, :3, 3] + [0, 0, away])
    intrinsics = np.array(cloud.cameras.intrinsics)
    intrinsics[:, [0, 1], [0, 1]] *= focal
    cameras = CameraData(poses, intrinsics, cloud.cameras.size)
    return CloudData(scale * cloud.points, cloud.colors, cloud.confidence, cloud.frame, cameras)


SPOILED = {
    "small": {"scale": 1e-6},
    "large": {"scale": 1e6},
    "far": {"away": 1e4},
    "behind": {"away": -50.0},
    "narrow": {"focal": 1e5},
    "blind": {"focal": np.inf},
}
STRICT_PAGE = """<!doctype html><meta charset="utf-8"><title>waiting</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self'; img-src data: blob:">
<div id="v"></div><script id="payload" type="application/octet-stream;base64">{payload}</script>
<script type="module" src="/strict.js"></script>"""
STRICT_SCRIPT = """import { mount } from "/viewer.js";
const element = document.getElementById("v");
element.style.height = "400px";
const viewer = mount(element, { theme: "dark" });
viewer.setPayload(document.getElementById("payload").textContent);
const read = () => [...viewer.root.querySelectorAll(".picture canvas:first-child")].map(
  (canvas) => canvas.getContext("2d").getImageData(40, 40, 1, 1).data[3],
);
const pause = () => new Promise((done) => setTimeout(done, 50));
for (let tries = 0; tries < 200 && (!read().length || read().includes(0)); tries++) await pause();
const seen = read();
document.title = `${viewer.screenshot().length > 20000} ${getComputedStyle(viewer.root).display} ${seen}`;
"""


PICTURES = (4, 96, 96)
"""Frames, height and width of the pictures of ``gridded``."""


def gridded(limit: int | None = None, noise: float = 0.06) -> PackedClouds:
    """The room and its spoiled twin, whose points know their pixels."""
    left, right = room(), room(noise=noise)
    images = encode_pictures(left.colors.reshape(*PICTURES, 3))
    options = {"scene": "gridded", "size": 5.0, "error_max": 0.25, "limit": limit}
    return pack_clouds(left, right, grid=PICTURES, images=images, **options)  # type: ignore[arg-type]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the test reports what matters."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    left = room()
    (folder / "index.html").write_text(PAGE)
    (folder / "viewer.js").write_bytes((static_folder() / "viewer.js").read_bytes())
    payload = gridded(limit=5000).data
    (folder / "strict.html").write_text(STRICT_PAGE.format(payload=base64.b64encode(payload).decode()))
    (folder / "strict.js").write_text(STRICT_SCRIPT)
    (folder / "pair.bin").write_bytes(pack_clouds(left, room(noise=0.06, tilt=0.03), scene="room").data)
    (folder / "better.bin").write_bytes(pack_clouds(left, room(noise=0.01), scene="room").data)
    for name, fault in SPOILED.items():
        (folder / f"{name}.bin").write_bytes(pack_clouds(spoiled(**fault), scene=name).data)
    sized = pack_clouds(left, room(noise=0.06), scene="sized", error_max=0.5, size=5.0)
    (folder / "sized.bin").write_bytes(sized.data)
    (folder / "other.bin").write_bytes(pack_clouds(room(side=40, views=2), scene="other").data)
    (folder / "grid.bin").write_bytes(gridded().data)
    (folder / "sample.bin").write_bytes(gridded(limit=9000).data)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(page: Any, site: str) -> Iterator[Any]:
    """A page of 800 x 440 with an empty viewer; an error on its console (a broken policy, too) fails the test."""
    problems: list[str] = []
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.set_viewport_size({"width": 800, "height": 440})
    page.goto(f"{site}/index.html")
    page.wait_for_function("() => Boolean(window.load)")
    yield page
    assert [text for text in problems if "404" not in text] == []


DESK: Any = {"width": 900, "height": 560}
CAMERA = {"position": [0.4, -0.6, -1.2], "target": [0.1, 0.2, 2.4], "up": [0, -1, 0], "fov": 55}


class Known:
    """The gridded clouds as numpy knows them: decoded from the payload by a reader of its own, projected by hand."""

    def __init__(self) -> None:
        packed = gridded()
        self.data = packed.data
        self.header: Any = packed.header
        self.order = packed.order
        self.start = 12 + int.from_bytes(packed.data[8:12], "little")
        self.left = self.points("left")
        self.right = self.points("right")
        self.confidence = self.array(self.header["left"]["confidence"])
        self.error = self.array(self.header["error"])

    def array(self, place: dict[str, Any]) -> NDArray[Any]:
        """An array of the payload."""
        return np.frombuffer(self.data, place["type"], place["size"], self.start + place["at"])

    def points(self, side: str) -> NDArray[np.float64]:
        """[N, 3] in the packed order; NaN where a point is hidden."""
        codes = self.array(self.header[side]["position"]).reshape(-1, 3).astype(float)
        codes[codes[:, 0] == -32768] = np.nan
        return codes * np.array(self.header["scale"]) + np.array(self.header["offset"])

    def packed(self, frame: int, row: int, column: int) -> int:
        """The packed index of a pixel."""
        pixel = (frame * PICTURES[1] + row) * PICTURES[2] + column
        return int(np.flatnonzero(self.order == pixel)[0])


def project(points: NDArray[np.float64], width: float, height: float) -> NDArray[np.float64]:
    """Points [N, 3] seen by ``CAMERA`` in a pane -> x, y (pixels from its top left) and depth [N, 3].

    The lens of the viewer: ``fov`` is the height of the view unless the pane is narrower than the (square) pictures.
    """
    position, target, up = (np.array(CAMERA[name], float) for name in ("position", "target", "up"))
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross(up, back) / np.linalg.norm(np.cross(up, back))
    seen = (points - position) @ np.stack([right, np.cross(back, right), back]).T
    slope = math.tan(math.radians(CAMERA["fov"]) / 2) * max(1.0, height / width)  # type: ignore[arg-type]
    depth = -seen[:, 2]
    x = (seen[:, 0] / depth / (slope * width / height) + 1) * width / 2
    y = (1 - seen[:, 1] / depth / slope) * height / 2
    return np.stack([x, y, depth], 1)


def inside(path: list[tuple[float, float]], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points [N, 2+] lie inside a closed path, by the winding of angles (not by crossings)."""
    corners = np.array([*path, path[0]], float)
    arms = corners[None] - points[:, None, :2]
    angles = np.arctan2(arms[..., 1], arms[..., 0])
    turns = np.diff(angles, axis=1)
    winding = ((turns + np.pi) % (2 * np.pi) - np.pi).sum(1)
    return np.asarray(np.abs(winding) > np.pi)


@pytest.fixture(scope="session")
def known() -> Known:
    return Known()


@pytest.fixture(scope="session")
def seen_from() -> Any:
    return project


@pytest.fixture(scope="session")
def within() -> Any:
    return inside


class Screen:
    """What a test does with the page and sees on it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def show(self, name: str = "pair.bin") -> None:
        """Load a payload of the site and wait until it is on the screen."""
        self.page.evaluate("name => load(name)", name)
        self.settle()

    def settle(self) -> None:
        """Wait until the last change is on the screen and the full level of detail is back."""
        self.page.wait_for_function("() => !viewer.cadence.isMoving")
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def pixels(self) -> NDArray[np.int16]:
        """The canvas [H, W, 3] as it is drawn now."""
        data = base64.b64decode(self.page.evaluate("viewer.screenshot()").split(",")[1])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)

    @staticmethod
    def share(picture: NDArray[np.int16]) -> float:
        """The share of pixels that differ from the light background #f5f6f7."""
        return float((np.abs(picture - np.array([0xF5, 0xF6, 0xF7])).max(-1) > 8).mean())


@pytest.fixture(scope="module")
def _desk_page(browser: Any, site: str) -> Iterator[Any]:
    """One page of 900 x 560 for the tests of a file; script errors and requests elsewhere fail the file."""
    trouble: list[str] = []
    page = browser.new_page(viewport=DESK)
    page.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith((site, "data:", "blob:")) or trouble.append(request.url),
    )
    page.goto(f"{site}/index.html")
    page.wait_for_function("() => Boolean(window.load)")
    yield page
    page.close()
    assert trouble == []


@pytest.fixture
def desk(_desk_page: Any) -> Any:
    """The shared page with a viewer that is as new and shows ``grid.bin`` from a fixed camera."""
    _desk_page.set_viewport_size(DESK)
    _desk_page.evaluate("remount(); viewer.setCameras(false)")
    screen = Screen(_desk_page)
    screen.show("grid.bin")
    _desk_page.evaluate("camera => viewer.setCamera(camera)", CAMERA)
    screen.settle()
    return _desk_page


@pytest.fixture(scope="session")
def room_of() -> Any:
    return room


@pytest.fixture(scope="session")
def payload_into() -> Any:
    """payload_into(page, bytes): show them."""

    def show(page: Any, data: bytes) -> None:
        page.evaluate("payload => viewer.setPayload(payload)", base64.b64encode(data).decode())

    return show


@pytest.fixture(scope="session")
def screen_of() -> type[Screen]:
    return Screen


@pytest.fixture
def screen(page: Any) -> Screen:
    return Screen(page)
