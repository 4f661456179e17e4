"""Drives the app with a VGGT of released size in a real browser: open, stop, run, edit, run. It asserts nothing.

    python benchmarks/released_size_app.py [--model FILE] [--dtype bfloat16] [--stop-after 4] [--json FILE]

Two rendered pictures of 518 x 392 are the scene. Prints one JSON record a step: seconds as the page shows them, the
steps that the progress named, and the largest resident memory of the server so far, anonymous and mapped apart.
Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from app_latency import ARGUMENTS, ROOT
from load_memory import write_random

LOOK = """() => ({
    busy: document.documentElement.dataset.qlBusy === 'true',
    text: document.querySelector('[data-testid=state]')?.textContent ?? '',
    fraction: document.querySelector('progress')?.value ?? 0,
    cloud: document.querySelector('.ql-stage')?.dataset.cloud ?? '',
    message: document.querySelector('[data-testid=message]:not([hidden])')?.textContent ?? '',
})"""
PATIENCE = 3600


class Bench:
    """A page, the server behind it, and the records."""

    def __init__(self, page, pid):
        self.page, self.begun, self.records = page, time.monotonic(), []
        self.peaks, self.over = {"RssAnon": 0, "RssFile": 0}, threading.Event()
        self.watcher = threading.Thread(target=self._sample, args=(pid,), daemon=True)
        self.watcher.start()

    def look(self):
        return self.page.evaluate(LOOK)

    def wait(self, until, *, each=None):
        """Look every 50 ms until ``until(state)``; ``each`` sees every state."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            state = self.look()
            if each is not None:
                each(state)
            if until(state):
                return state
            self.page.wait_for_timeout(50)
        raise SystemExit(f"the page did not get there; it shows {state}")

    def tell(self, step, seconds, **more):
        peaks = {f"peak_{kind[3:].lower()}_gb": round(value / 1e6, 2) for kind, value in self.peaks.items()}
        record = {"step": step, "seconds": round(seconds, 2), **more, **peaks}
        self.records.append(record)
        print(json.dumps(record), flush=True)

    def _sample(self, pid):
        while not self.over.wait(0.1):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
                    name, _, rest = line.partition(":")
                    if name in self.peaks:
                        self.peaks[name] = max(self.peaks[name], int(rest.split()[0]))


class Progress:
    """What the progress showed: blocks named, whether it ever went back, and when new clouds were there."""

    def __init__(self, cloud):
        self.blocks, self.fractions, self.cloud, self.cloud_after = [], [], cloud, None
        self.begun = time.monotonic()

    def __call__(self, state):
        if state["busy"]:
            self.fractions.append(state["fraction"])
            named = re.search(r"[\w.]*(blocks|trunk)\.\d+|\w+_head", state["text"])
            if named and named[0] not in self.blocks:
                self.blocks.append(named[0])
        if self.cloud_after is None and state["cloud"] != self.cloud:
            self.cloud_after = round(time.monotonic() - self.begun, 1)

    def facts(self):
        steps = zip(self.fractions, self.fractions[1:], strict=False)
        back = sum(later < earlier - 1e-9 for earlier, later in steps)
        return {"blocks_named": len(self.blocks), "fell_back": back, "clouds_after_s": self.cloud_after}


def drive(bench, stop_after):
    """The whole session of a person."""
    page = bench.page
    opened = bench.wait(lambda state: not state["busy"] and "waits for Run" in state["text"])
    bench.tell("open", time.monotonic() - bench.begun, text=opened["text"])
    stop(bench, stop_after, "stop in the profile")
    run(bench, "first run")
    before = bench.look()["cloud"]
    page.locator("[data-testid=worst] button").first.click()
    begun = time.monotonic()
    page.wait_for_timeout(500)
    page.locator("input[name=rotation]").click()
    queued = bench.wait(lambda state: "changes wait" in state["text"])
    bench.tell("edit queued", time.monotonic() - begun, text=queued["text"])
    stop(bench, stop_after, "stop after the edit")
    run(bench, "run after the edit")
    bench.tell("clouds compared", 0, changed=bench.look()["cloud"] != before)


def stop(bench, after, name):
    """Run, wait until the progress named some blocks, stop, and time until the page is idle."""
    progress = Progress(bench.look()["cloud"])
    bench.page.get_by_test_id("run").click()
    bench.wait(
        lambda state: len(progress.blocks) >= after or (not state["busy"] and progress.blocks), each=progress
    )
    before = bench.look()["text"]
    begun = time.monotonic()
    bench.page.get_by_test_id("stop").click()
    bench.wait(lambda state: state["text"] == "stopping" or not state["busy"])
    seen = time.monotonic() - begun
    state = bench.wait(lambda state: not state["busy"])
    facts = {"answered_s": round(seen, 2), "during": before, "message": state["message"], **progress.facts()}
    bench.tell(name, time.monotonic() - begun, **facts)
    bench.page.get_by_role("button", name="Dismiss").click()


def run(bench, name):
    progress = Progress(bench.look()["cloud"])
    bench.page.get_by_test_id("run").click()
    bench.wait(lambda state: state["busy"])
    state = bench.wait(lambda state: not state["busy"], each=progress)
    bench.tell(
        name,
        time.monotonic() - progress.begun,
        text=state["text"],
        message=state["message"],
        **progress.facts(),
    )


def pictures(folder):
    """Write the two views."""
    from PIL import Image

    from quantlab.scenes.synthetic import rooms

    folder.mkdir()
    for index, image in enumerate(rooms(1, views=2, size=(392, 518))[0].images):
        Image.fromarray(image).save(folder / f"view{index}.png")


def main():
    """Make what is missing, start server and browser, drive, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a checkpoint; by default random weights in a temporary folder"
    )
    parser.add_argument("--scene", type=Path, help="a folder of pictures; by default two rendered ones")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument(
        "--stop-after", type=int, default=4, help="blocks that the progress names before Stop"
    )
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--nice", type=int, default=0, help="of the server")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model, scene = chosen.model, chosen.scene
        if model is None:
            write_random(model := Path(temporary) / "random.safetensors")
        if scene is None:
            pictures(scene := Path(temporary) / "two-views")
        records = session(chosen, model, scene)
    if chosen.json:
        chosen.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def session(chosen, model, scene):
    """Server and browser around `drive`."""
    from playwright.sync_api import sync_playwright

    command = ["nice", "-n", str(chosen.nice), sys.executable, str(ROOT / "app.py"), "--no-browser"]
    command += ["--port", "7961", "--dtype", chosen.dtype]
    command += ["--model", str(model), "--scene", str(scene)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[3]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chosen.chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            bench = Bench(page, server.pid)
            page.goto(address)
            drive(bench, chosen.stop_after)
            browser.close()
            bench.over.set()
            return bench.records
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
