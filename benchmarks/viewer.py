"""How fast the 3D comparison is in a real browser: payload, first frame, drag; run by hand, no test.

    python benchmarks/viewer.py [points ...]

The clouds are random points on the walls of a room. The first frame is counted from the start of the download to the
finished drawing (read back from the device), the drag in finished pictures a second over 30 moves.
"""

from __future__ import annotations

import sys
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

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<body style="margin:0;height:100vh"><div id="v" style="height:100%"></div><script type="module">
import { mount } from "/viewer.js";
window.viewer = mount(document.getElementById("v"));
const pixel = new Uint8Array(4);
window.finish = () => {
  const gl = viewer.stage.renderer.getContext();
  gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
};
window.first = async () => {
  const start = performance.now();
  viewer.setPayload(await (await fetch("/pair.bin")).arrayBuffer());
  await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done));
  finish();
  return performance.now() - start;
};
window.drag = async () => {
  const start = performance.now();
  for (let i = 0; i < 30; i++) {
    viewer.rig.turn(0.02, 0);
    await new Promise(requestAnimationFrame);
    finish();
  }
  return 30000 / (performance.now() - start);
};
</script>"""


def walls(count: int, noise: float) -> CloudData:
    """``count`` points on the walls of a 6 x 6 x 3 m room, moved by ``noise`` metres."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (count, 3))
    points[np.arange(count), rng.integers(0, 3, count)] = rng.choice([-1, 1], count)
    points = points * [3, 1.5, 3] + [0, 0, 2] + np.random.default_rng(1).normal(size=(count, 3)) * noise
    colors = rng.integers(60, 220, (count, 3), dtype=np.uint8)
    poses = np.tile(np.eye(4), (4, 1, 1))
    return CloudData(
        points.astype(np.float32), colors, rng.random(count), np.arange(count) % 4, CameraData(poses)
    )


class Handler(SimpleHTTPRequestHandler):
    """Serves one folder without a word."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def measure(browser: Any, url: str, folder: Path, count: int) -> str:
    """One row of the table."""
    left, right = walls(count, 0.0), walls(count, 0.02)
    start = time.perf_counter()
    data = pack_clouds(left, right).data
    packing = time.perf_counter() - start
    (folder / "pair.bin").write_bytes(data)
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(url)
    page.wait_for_function("() => Boolean(window.drag)")
    first = page.evaluate("first()") / 1000
    rate = page.evaluate("drag()")
    page.close()
    per_point = len(data) / (2 * count)
    return (
        f"{count:>9} {packing:>8.2f} {len(data) / 1e6:>8.1f} {per_point:>8.2f} {first:>12.2f} {rate:>10.1f}"
    )


def main() -> None:
    """Print the table for the sizes on the command line."""
    counts = [int(text) for text in sys.argv[1:]] or [50_000, 200_000, 1_000_000]
    folder = Path(tempfile.mkdtemp())
    (folder / "index.html").write_text(PAGE)
    (folder / "viewer.js").write_bytes((static_folder() / "viewer.js").read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("   points   pack s       MB  bytes/pt  first frame s  drag fps")
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for count in counts:
            print(measure(browser, f"http://127.0.0.1:{server.server_port}/", folder, count), flush=True)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
