"""The 3D comparison in a real browser: both clouds, one context, one camera, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantlab.viewer.embed import static_folder
from quantlab.viewer.pack import CameraData, CloudData, pack_clouds

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--no-first-run",
]
PAGE = """<!doctype html><meta charset="utf-8"><title>viewer</title><link rel="icon" href="data:,">
<body style="margin:0;height:100vh"><div id="v" style="height:100%"></div>
<script type="module">
import { mount, render } from "/viewer.js";
window.render = render;
window.viewer = mount(document.getElementById("v"), { theme: "light" });
window.events = [];
viewer.onEvent((event) => events.push(event));
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


STRICT_PAGE = """<!doctype html><meta charset="utf-8"><title>waiting</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self'; img-src data: blob:">
<div id="v"></div><script id="payload" type="application/octet-stream;base64">{payload}</script>
<script type="module" src="/strict.js"></script>"""
STRICT_SCRIPT = """import { mount } from "/viewer.js";
const element = document.getElementById("v");
element.style.height = "400px";
const viewer = mount(element, { theme: "dark" });
viewer.setPayload(document.getElementById("payload").textContent);
document.title = `${viewer.screenshot().length > 20000} ${getComputedStyle(viewer.root).display}`;
"""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the test reports what matters."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    left = room()
    (folder / "index.html").write_text(PAGE)
    (folder / "viewer.js").write_bytes((static_folder() / "viewer.js").read_bytes())
    payload = pack_clouds(left, room(noise=0.06), limit=5000).data
    (folder / "strict.html").write_text(STRICT_PAGE.format(payload=base64.b64encode(payload).decode()))
    (folder / "strict.js").write_text(STRICT_SCRIPT)
    (folder / "pair.bin").write_bytes(pack_clouds(left, room(noise=0.06, tilt=0.03), scene="room").data)
    (folder / "better.bin").write_bytes(pack_clouds(left, room(noise=0.01), scene="room").data)
    (folder / "other.bin").write_bytes(pack_clouds(room(side=40, views=2), scene="other").data)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as api:
        opened = api.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 800, "height": 440})
    strangers: list[str] = []
    problems: list[str] = []

    def guard(route: Any) -> None:
        if route.request.url.startswith(site + "/"):
            route.continue_()
        else:
            strangers.append(route.request.url)
            route.abort()

    opened.route("**/*", guard)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    opened.goto(f"{site}/index.html")
    opened.wait_for_function("() => Boolean(window.load)")
    yield opened
    opened.close()
    assert strangers == []
    assert [text for text in problems if "404" not in text] == []


def show(page: Any, name: str = "pair.bin") -> None:
    page.evaluate("name => load(name)", name)
    settle(page)


def settle(page: Any) -> None:
    """Wait until the last change is on the screen and the full level of detail is back."""
    page.wait_for_timeout(220)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(page: Any) -> NDArray[np.int16]:
    """The canvas [H, W, 3] as it is drawn now."""
    text = page.evaluate("viewer.screenshot()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("RGB"), np.int16)


def drawn_share(picture: NDArray[np.int16]) -> float:
    """The share of pixels that differ from the light background #f5f6f7."""
    return float((np.abs(picture - np.array([0xF5, 0xF6, 0xF7])).max(-1) > 8).mean())


def test_before_any_cloud_a_sentence_says_what_will_be_here(page: Any) -> None:
    assert page.get_by_text("The two point clouds appear here").is_visible()
    assert page.evaluate("viewer.getCamera()") is None


def test_both_clouds_are_drawn_by_one_context(page: Any) -> None:
    show(page)
    picture = pixels(page)
    half = picture.shape[1] // 2
    assert drawn_share(picture[:, : half - 2]) > 0.4
    assert drawn_share(picture[:, half + 2 :]) > 0.4
    stats = page.evaluate("viewer.stats()")
    assert (stats["contexts"], stats["points"]) == (1, [36864, 36864])
    assert page.get_by_text("full precision", exact=True).is_visible()
    assert page.get_by_text("quantized", exact=True).is_visible()


def test_colours_on_the_screen_are_those_of_the_pictures(page: Any) -> None:
    show(page)
    half = pixels(page)[:, :398].reshape(-1, 3)
    brick = np.array([176, 96, 64]) * 0.9
    assert (np.abs(half - brick).max(1) <= 2).mean() > 0.003


def test_the_first_view_is_that_of_the_first_camera_from_behind_and_above(page: Any) -> None:
    show(page)
    camera = page.evaluate("viewer.getCamera()")
    x, y, z = camera["position"]
    assert abs(x) < 1e-6
    assert (y < 0, z < 0) == (True, True)
    assert np.allclose(camera["up"], [0, -1, 0], atol=1e-6)
    assert np.allclose(camera["target"][:2], 0, atol=1e-6)
    assert camera["target"][2] > 0


def test_dragging_one_side_turns_both_and_tells_the_listeners(page: Any) -> None:
    show(page)
    before = pixels(page)
    page.mouse.move(600, 240)
    page.mouse.down()
    page.mouse.move(480, 220, steps=4)
    page.mouse.up()
    settle(page)
    after = pixels(page)
    half = before.shape[1] // 2
    for columns in (slice(0, half), slice(half, None)):
        assert (np.abs(after[:, columns] - before[:, columns]).max(-1) > 8).mean() > 0.1
    events = page.evaluate("events.filter(e => e.type === 'camera')")
    assert events[-1]["camera"]["position"] == pytest.approx(page.evaluate("viewer.getCamera().position"))


def test_new_values_of_the_same_scene_keep_the_camera_and_another_scene_does_not(page: Any) -> None:
    show(page)
    page.locator("canvas").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
    turned = page.evaluate("viewer.getCamera()")
    show(page, "better.bin")
    assert page.evaluate("viewer.getCamera()") == turned
    show(page, "other.bin")
    assert page.evaluate("viewer.getCamera()") != turned


def test_a_camera_that_was_read_can_be_set_again(page: Any) -> None:
    show(page)
    page.locator("canvas").focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    camera, turned = page.evaluate("viewer.getCamera()"), pixels(page)
    page.keyboard.press("r")
    settle(page)
    assert np.abs(pixels(page) - turned).max() > 50
    page.evaluate("camera => viewer.setCamera(camera)", camera)
    settle(page)
    assert np.abs(pixels(page) - turned).mean() < 0.05


def test_swipe_shows_one_view_cut_at_the_divider(page: Any) -> None:
    show(page)
    page.evaluate("viewer.setCameras(false)")
    pictures = {}
    for side in (0, 1):
        page.evaluate("side => { viewer.setMode('flip'); viewer.setShown(side); }", side)
        pictures[side] = pixels(page)
    page.get_by_role("button", name="swipe").click()
    page.get_by_role("slider", name="Divider").hover()
    page.mouse.down()
    page.mouse.move(200, 240, steps=3)
    page.mouse.up()
    swiped = pixels(page)
    assert np.array_equal(swiped[:, :190], pictures[0][:, :190])
    assert np.array_equal(swiped[:, 210:], pictures[1][:, 210:])
    assert not np.array_equal(pictures[0], pictures[1])


def test_the_keys_a_and_b_flip_between_the_clouds(page: Any) -> None:
    show(page)
    page.locator("canvas").focus()
    page.keyboard.press("a")
    assert (page.evaluate("viewer.stats().mode"), page.evaluate("viewer.stats().shown")) == ("flip", 0)
    assert page.get_by_text("full precision A").is_visible()
    full = pixels(page)
    page.keyboard.press("b")
    assert page.get_by_text("quantized B").is_visible()
    assert (np.abs(pixels(page) - full).max(-1) > 8).mean() > 0.02


def test_the_error_map_recolours_only_the_right_cloud_and_shows_its_scale(page: Any) -> None:
    show(page)
    before = pixels(page)
    page.get_by_role("button", name="error").click()
    settle(page)
    after = pixels(page)
    half = before.shape[1] // 2
    assert np.array_equal(after[:, : half - 1], before[:, : half - 1])
    assert (np.abs(after[:, half:] - before[:, half:]).max(-1) > 8).mean() > 0.3
    assert page.get_by_text("distance to full precision, scene units").is_visible()


def test_frames_and_confidence_hide_points(page: Any) -> None:
    show(page)
    page.evaluate("viewer.setCameras(false); viewer.setConfidence(0)")
    everything = drawn_share(pixels(page))
    page.get_by_role("button", name="Frame 1", exact=True).click(modifiers=["Alt"])
    alone = drawn_share(pixels(page))
    assert 0.1 < alone < everything
    assert page.evaluate("viewer.state.frames") == [0]
    page.evaluate("viewer.setFrames(null); viewer.setConfidence(80)")
    assert drawn_share(pixels(page)) < 0.8 * everything


def test_a_click_finds_the_pair_and_the_distance_between_its_points(page: Any) -> None:
    show(page)
    page.mouse.click(200, 260)
    event = page.evaluate("events.filter(e => e.type === 'pick').at(-1)")
    assert event["side"] == 0
    assert event["index"] >= 0
    apart = math.dist(event["left"], event["right"])
    top = page.evaluate("viewer.data.meta.error.max")
    assert event["error"] == pytest.approx(min(apart, top), abs=top / 255)
    assert page.locator(".ring:visible").count() == 2
    page.keyboard.press("Escape")
    assert page.locator(".ring:visible").count() == 0


def test_nothing_is_drawn_while_nothing_changes(page: Any) -> None:
    show(page)
    before = page.evaluate("viewer.stats().renders")
    page.wait_for_timeout(400)
    assert page.evaluate("viewer.stats().renders") == before


def test_one_cloud_alone_says_what_is_missing(page: Any) -> None:
    show(page, "other.bin")
    assert page.get_by_text("No quantized cloud yet.").is_visible()
    assert drawn_share(pixels(page)[:, 402:]) == 0


def test_a_damaged_payload_is_told_and_the_viewer_lives_on(page: Any) -> None:
    page.evaluate("viewer.setPayload(new Uint8Array(40))")
    assert page.get_by_text("not a point cloud payload").is_visible()
    page.evaluate(
        "fetch('pair.bin').then(r => r.arrayBuffer()).then(b => viewer.setPayload(b.slice(0, 5000)))"
    )
    page.get_by_text("cut short").wait_for(timeout=2000)
    show(page)
    assert drawn_share(pixels(page)) > 0.3


def test_dispose_gives_the_context_back(page: Any) -> None:
    show(page)
    page.evaluate("window.other = document.createElement('div'); document.body.append(other)")
    contexts = page.evaluate(
        """async () => {
          const { mount } = await import('/viewer.js');
          const second = mount(other), same = mount(other);
          const most = viewer.stats().contexts;
          second.dispose();
          return [most, second === same, viewer.stats().contexts];
        }"""
    )
    assert contexts == [2, True, 1]


def test_the_widget_entry_follows_its_traits_and_writes_back(page: Any) -> None:
    seen = page.evaluate(
        """async () => {
          viewer.dispose();
          const bytes = new DataView(await (await fetch('pair.bin')).arrayBuffer());
          const traits = { payload: bytes, mode: 'swipe', theme: 'dark', point_size: 2, confidence: 5, frames: [],
            camera: {}, pick: {}, height: 300 };
          const handlers = {};
          const model = { get: (n) => traits[n], set: (n, v) => (traits[n] = v), save_changes: () => {},
            on: (n, f) => (handlers[n] = f), off: (n) => delete handlers[n] };
          const el = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
          const end = window.render({ model, el });
          const shown = el.firstChild.__quantlabViewer;
          const first = [shown.stats().mode, shown.state.pointSize, shown.stats().points[1]];
          traits.mode = 'error';
          handlers['change:mode']();
          const second = shown.stats().mode;
          shown.root.querySelector('button').click();
          const written = traits.mode;
          await new Promise((done) => requestAnimationFrame(done));
          shown.probe(200, 190);
          const picked = traits.pick.index;
          end();
          return { first, second, written, picked, left: Object.keys(handlers).length, children: el.children.length };
        }"""
    )
    assert seen["first"] == ["swipe", 2, 36864]
    assert (seen["second"], seen["written"]) == ("error", "split")
    assert seen["picked"] >= 0
    assert (seen["left"], seen["children"]) == (0, 0)


def test_it_runs_under_the_content_policy_of_an_offline_report(page: Any, site: str) -> None:
    page.goto(f"{site}/strict.html")
    page.locator("canvas").wait_for()
    assert page.title() == "true flex"


def test_a_lost_graphics_device_is_told_and_comes_back(page: Any) -> None:
    show(page)
    before = pixels(page)
    page.evaluate(
        """() => {
          window.device = viewer.stage.renderer.getContext().getExtension('WEBGL_lose_context');
          device.loseContext();
        }"""
    )
    page.get_by_text("The graphics device was lost").wait_for(timeout=2000)
    page.evaluate("device.restoreContext()")
    page.get_by_text("The graphics device was lost").wait_for(state="hidden", timeout=2000)
    settle(page)
    assert np.abs(pixels(page) - before).mean() < 0.05


def test_a_tap_probes_and_a_finger_turns(page: Any) -> None:
    show(page)
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[int, int]) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (200, 260))
    touch("touchEnd")
    page.wait_for_function(
        "() => events.some(event => event.type === 'pick' && event.index >= 0)", timeout=2000
    )
    before = page.evaluate("viewer.getCamera()")
    touch("touchStart", (200, 240))
    touch("touchMove", (230, 240))
    touch("touchMove", (260, 240))
    touch("touchEnd")
    assert page.evaluate("viewer.getCamera()") != before


def test_the_gradio_entry_follows_its_value_and_triggers_events(page: Any) -> None:
    seen = page.evaluate(
        """async () => {
          const { attachGradio } = await import('/viewer.js');
          viewer.dispose();
          const element = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
          element.innerHTML = '<div class="quantlab-viewer" style="height: 300px"></div>';
          const props = { value: { payload: '/pair.bin', mode: 'error' } };
          const triggered = [];
          let changed;
          const shown = attachGradio(element, { props, watch: (_, f) => (changed = f), trigger: (...a) => triggered.push(a) });
          const points = async (count) => {
            while (shown.stats().points[0] !== count) await new Promise((done) => setTimeout(done, 20));
          };
          await points(36864);
          props.value = { message: 'waiting' };
          changed();
          const kept = [shown.stats().points[0], shown.stats().mode, shown.root.textContent.includes('waiting')];
          props.value = { payload: '/missing.bin' };
          await changed();
          const told = shown.root.textContent.includes('could not be loaded: the server answered 404');
          props.value = { payload: '/other.bin' };
          changed();
          await points(3200);
          shown.probe(200, 190);
          document.body.classList.add('dark');
          await new Promise((done) => setTimeout(done, 50));
          return { kept, told, events: triggered.map(([name]) => name), theme: shown.state.theme };
        }"""
    )
    assert seen == {"kept": [36864, "error", True], "told": True, "events": ["pick"], "theme": "dark"}
