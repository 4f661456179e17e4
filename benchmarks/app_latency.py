"""Times the app in a real browser: from start to both clouds, and from what a person does to what it shows.

    python benchmarks/app_latency.py [--toggles 20] [--chromium /usr/bin/chromium]

Prints one JSON record: seconds to open; the median and worst milliseconds of a toggle until the histogram, the
numbers and the clouds on the screen are those of the new recipe; the same of what else a person does, a few times each.
Jobs that report progress and can be stopped (search, report) are no interactions. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-sync",
]
STATE = """() => ({
    layer: +document.querySelector('.ql-layer').dataset.number,
    numbers: +document.querySelector('.ql-numbers').dataset.number,
    cloud: document.querySelector('.ql-stage').dataset.cloud,
})"""
CHANGED = """(before) => {
    const cloud = document.querySelector('.ql-stage').dataset.cloud;
    return +document.querySelector('.ql-layer').dataset.number > before.layer
        && +document.querySelector('.ql-numbers').dataset.number > before.numbers
        && cloud && cloud !== before.cloud;
}"""
IDLE = (
    "document.documentElement.dataset.qlBusy === 'false' && document.querySelector('.ql-stage').dataset.cloud"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toggles", type=int, default=20)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--model", default="mini")
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    begun = time.monotonic()
    command = [
        sys.executable,
        str(ROOT / "app.py"),
        "--no-browser",
        "--port",
        "7960",
        "--model",
        chosen.model,
    ]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        ready = time.monotonic() - begun
        address = line.split()[3]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chosen.chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.add_init_script("localStorage.setItem('quantlab-hint', 'seen')")
            page.goto(address)
            page.wait_for_function("document.querySelector('.ql-stage')?.dataset.cloud", timeout=120_000)
            clouds = time.monotonic() - begun
            page.wait_for_function(IDLE, timeout=120_000)
            everything = time.monotonic() - begun
            times = toggles(page, chosen.toggles)
            others = interactions(page)
            browser.close()
    finally:
        server.terminate()
        server.wait(10)
    record = {
        "machine": f"{platform.machine()} {platform.processor()}",
        "server_ready_seconds": round(ready, 1),
        "clouds_seconds": round(clouds, 1),
        "everything_seconds": round(everything, 1),
        "toggles": len(times),
        "median_ms": round(statistics.median(times)),
        "worst_ms": round(max(times)),
        "others_median_and_worst_ms": {
            name: [round(statistics.median(found)), round(max(found))] for name, found in others.items()
        },
    }
    print(json.dumps(record, indent=2))


def toggles(page, count):
    """Milliseconds of ``count`` clicks, each on another layer or switch, so that no recipe was seen before."""
    times = []
    for switch in ("rotation", "smoothing", "keep"):
        names = page.locator("[data-testid=worst] button").evaluate_all(
            "all => all.map((b) => b.dataset.layer)"
        )
        for name in names[: count - len(times)]:
            row = page.locator(f"[data-testid=worst] button[data-layer='{name}']")
            if row.count():
                row.click()
                page.wait_for_function(f"document.querySelector('.ql-layer h2').title === {name!r}")
                page.wait_for_timeout(300)
                page.wait_for_function(IDLE)
                times.append(toggle(page, switch))
    return times


def toggle(page, switch):
    """Click a switch of the open layer and wait for everything that shows it; milliseconds, as the page sees it."""
    before = page.evaluate(STATE)
    box = page.locator(f"input[name={switch}]")
    begun = time.monotonic()
    box.click()
    page.wait_for_function(CHANGED, arg=before, timeout=60_000, polling=10)
    milliseconds = 1000 * (time.monotonic() - begun)
    page.wait_for_function(IDLE, timeout=60_000)
    return milliseconds


def interactions(page):
    """Milliseconds of what else a person does, by name."""
    found = {}

    def timed(name, do, changed, argument=None):
        page.wait_for_function(IDLE, timeout=60_000)
        page.wait_for_timeout(300)
        before = page.evaluate(argument) if argument else None
        begun = time.monotonic()
        do()
        page.wait_for_function(changed, arg=before, timeout=60_000, polling=10)
        found.setdefault(name, []).append(1000 * (time.monotonic() - begun))

    number = "() => +document.querySelector('.ql-{0}').dataset.number"
    newer = "(before) => +document.querySelector('.ql-{0}').dataset.number > before"
    plot = "() => document.querySelector('.ql-layer .js-plotly-plot')?.data?.length > 0"
    for index in range(5):
        row = page.locator("[data-testid=worst] button").nth(index + 1)
        name = row.get_attribute("data-layer")
        timed(
            "open a layer",
            row.click,
            f"() => document.querySelector('.ql-layer h2').title === {name!r} && ({plot})()",
        )
    for label in ("Waterfall", "Channels", "Landscape", "Histogram"):
        button = page.get_by_role("button", name=label, exact=True)
        timed("another plot of the layer", button.click, newer.format("layer"), number.format("layer"))
    for by in ("kurtosis", "max_p999", "tre"):
        select = page.get_by_label("Colour by")
        timed(
            "another colour of the map",
            lambda select=select, by=by: select.select_option(by),
            newer.format("map"),
            number.format("map"),
        )
    for side in ("former", "now", "former", "now"):
        select = page.get_by_label("Right side")
        timed(
            "another cloud on a side",
            lambda select=select, side=side: select.select_option(side),
            "(before) => document.querySelector('.ql-stage').dataset.cloud !== before",
            "() => document.querySelector('.ql-stage').dataset.cloud",
        )
    for key in ("undo", "undo", "redo", "redo"):
        timed("undo and redo", page.get_by_test_id(key).click, CHANGED, STATE)
    for name in ("smoothquant", "quarot", "rtn"):
        select = page.get_by_label("Preset", exact=True)
        timed(
            "another preset",
            lambda select=select, name=name: select.select_option(name),
            CHANGED,
            STATE,
        )
    for reach in (40, 60, 80):
        timed(
            "a region drawn, to the first suspects",
            lambda reach=reach: lasso(page, reach),
            newer.format("map") + " && document.querySelectorAll('[data-testid=suspects] li').length > 0",
            number.format("map"),
        )
        page.wait_for_function(IDLE, timeout=60_000)
    return found


def lasso(page, reach):
    """A loop around the middle of the clouds; the drawing itself counts, a few milliseconds."""
    box = page.locator(".quantlab-viewer .stage").bounding_box()
    page.locator(".quantlab-viewer .stage > canvas").focus()
    page.keyboard.press("l")
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x - reach, y - reach)
    page.mouse.down()
    for across, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        page.mouse.move(x + across * reach, y + down * reach)
    page.mouse.up()


if __name__ == "__main__":
    main()
