"""How fast the 3D comparison is in a real browser: payload, first frame, drag, brush, lasso; run by hand, no test.

    python benchmarks/viewer.py [points ...] [--out FILE.md]

The clouds are random points on the walls of a room, as pixels of four pictures. The first frame is counted from the
start of the download to the finished drawing (read back from the device) of an even sample, the full picture follows;
the drag in finished pictures a second over
30 moves, once with the level of detail that a drag has and once without (their ratio is what it is worth). Brush and
lasso are the time from the event to the finished drawing; a probe is the search for the point under the pointer.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from quantlab.viewer.embed import static_folder
from quantlab.viewer.pack import CameraData, CloudData, pack_clouds
from quantlab.viewer.pictures import encode_pictures

MOST_BYTES, MOST_SECONDS, FEWEST_FRAMES = 10.0, 5.0, 5.0
"""What was promised for two clouds of a million points: bytes a point, first frame, pictures a second in a drag."""
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<body style="margin:0;height:100vh"><div id="v" style="height:100%"></div><script type="module">
import { mount } from "/viewer.js";
window.viewer = mount(document.getElementById("v"));
const pixel = new Uint8Array(4);
const gl = viewer.stage.renderer.getContext();
const finish = () => gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
window.renderer = gl.getParameter(gl.getExtension("WEBGL_debug_renderer_info").UNMASKED_RENDERER_WEBGL);
window.first = async () => {
  const start = performance.now();
  viewer.setPayload(await (await fetch("/pair.bin")).arrayBuffer());
  await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done));
  finish();
  return performance.now() - start;
};
window.full = async () => {
  const start = performance.now();
  while (viewer.cadence.isMoving) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  finish();
  return performance.now() - start;
};
window.drag = async (coarse) => {
  const start = performance.now();
  for (let i = 0; i < 30; i++) {
    viewer.rig.turn(0.02, 0);
    if (!coarse) viewer.cadence.rest();
    await new Promise(requestAnimationFrame);
  }
  finish();
  return 30000 / (performance.now() - start);
};
const timed = async (run) => {
  const times = [];
  for (let i = 0; i < 5; i++) {
    viewer.cadence.rest();
    const start = performance.now();
    run(i);
    await new Promise(requestAnimationFrame);
    await new Promise((done) => setTimeout(done));
    finish();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[2];
};
window.brush = () => timed((i) => viewer.actions.errors([0.01 + 0.001 * i, 0.03]));
window.lasso = () => timed((i) => {
  viewer.setErrorRange(null);
  viewer.lasso.toggle();
  viewer.lasso.down(100 + i, 150);
  for (const [x, y] of [[400, 150], [500, 300], [300, 420], [120, 300]]) viewer.lasso.move(x, y);
  viewer.lasso.up({});
});
window.pick = () => {
  const start = performance.now();
  for (let i = 0; i < 5; i++) viewer.hover([200 + 20 * i, 300]);
  return (performance.now() - start) / 5;
};
</script>"""


def walls(shape: tuple[int, int, int], noise: float) -> CloudData:
    """One point a pixel on the walls of a 6 x 6 x 3 m room, moved by ``noise`` metres."""
    rng = np.random.default_rng(0)
    count = int(np.prod(shape))
    points = rng.uniform(-1, 1, (count, 3))
    points[np.arange(count), rng.integers(0, 3, count)] = rng.choice([-1, 1], count)
    points = points * [3, 1.5, 3] + [0, 0, 2] + np.random.default_rng(1).normal(size=(count, 3)) * noise
    colors = rng.integers(60, 220, (count, 3), dtype=np.uint8)
    frame = np.repeat(np.arange(shape[0]), shape[1] * shape[2])
    poses = np.tile(np.eye(4), (shape[0], 1, 1))
    return CloudData(points.astype(np.float32), colors, rng.random(count), frame, CameraData(poses))


class Handler(SimpleHTTPRequestHandler):
    """Serves one folder without a word."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def measure(browser: Any, url: str, folder: Path, count: int) -> dict[str, float | str]:
    """The figures of two clouds of about ``count`` points."""
    shape = (4, round((count / 4) ** 0.5), round((count / 4) ** 0.5))
    left, right = walls(shape, 0.0), walls(shape, 0.02)
    images = encode_pictures(left.colors.reshape(*shape, 3))
    start = time.perf_counter()
    data = pack_clouds(left, right, grid=shape, images=images, size=7.0).data
    packing = time.perf_counter() - start
    (folder / "pair.bin").write_bytes(data)
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(url)
    page.wait_for_function("() => Boolean(window.drag)")
    first = page.evaluate("first()") / 1000
    figures: dict[str, float | str] = {
        "points": len(left.points),
        "pack s": packing,
        "bytes a point": (len(data) - sum(map(len, images))) / (2 * len(left.points)),
        "first frame s": first,
        "full picture s": first + page.evaluate("full()") / 1000,
        "drag fps": page.evaluate("drag(true)"),
        "points drawn in a drag": page.evaluate("viewer.stats().drawn[0]"),
        "drag fps in full": page.evaluate("drag(false)"),
        "brush ms": page.evaluate("brush()"),
        "lasso ms": page.evaluate("lasso()"),
        "probe ms": page.evaluate("pick()"),
        "renderer": page.evaluate("renderer"),
    }
    page.close()
    return figures


def table(rows: list[dict[str, float | str]]) -> str:
    """The figures as Markdown, with the machine they are of and what was promised."""
    names = [name for name in rows[0] if name != "renderer"]
    machine = (
        f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} of other work and this"
    )
    lines = [f"Measured on {machine}, {rows[0]['renderer']}.", ""]
    lines += ["| " + " | ".join(names) + " | level of detail |", "|" + "---:|" * (len(names) + 1)]
    for row in rows:
        gain = float(row["drag fps"]) / float(row["drag fps in full"])
        cells = [f"{row[name]:,.0f}" if name.startswith("points") else f"{row[name]:.3g}" for name in names]
        lines.append("| " + " | ".join([*cells, f"{gain:.1f} x"]) + " |")
    last = rows[-1]
    kept = {
        f"at most {MOST_BYTES:g} bytes a point": float(last["bytes a point"]) <= MOST_BYTES,
        f"first frame within {MOST_SECONDS:g} s": float(last["first frame s"]) <= MOST_SECONDS,
        f"at least {FEWEST_FRAMES:g} frames a second while dragging": float(last["drag fps"])
        >= FEWEST_FRAMES,
    }
    told = [f"* {text}: {'kept' if holds else 'MISSED'}" for text, holds in kept.items()]
    return "\n".join([*lines, "", f"Promised for two clouds of {last['points']:,.0f} points:", "", *told, ""])


def main() -> None:
    """Print the table for the sizes on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("points", nargs="*", type=int, default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    (folder / "index.html").write_text(PAGE)
    (folder / "viewer.js").write_bytes((static_folder() / "viewer.js").read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        url = f"http://127.0.0.1:{server.server_port}/"
        text = table([measure(browser, url, folder, count) for count in arguments.points])
        browser.close()
    server.shutdown()
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(f"# The 3D comparison in a browser\n\n{text}")


if __name__ == "__main__":
    main()
