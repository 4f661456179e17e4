"""Speed and size as a person sees them: measured on request, marked where simulated, taken away as a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(500)]
FORWARD = "[data-number=forward]"
PATIENCE = 120_000


@pytest.fixture
def measured(bench):
    """The lab on W8A8, its forward pass measured."""
    bench.open()
    page = bench.page
    page.get_by_label("Bits per weight of the preset").select_option("8")
    bench.settle()
    page.get_by_label("Bits per activation of the preset").select_option("8")
    bench.settle()
    page.get_by_test_id("measure").click()
    page.get_by_test_id("details").wait_for(timeout=PATIENCE)
    bench.settle()
    return bench


def test_the_forward_pass_is_measured_and_says_machine_and_kernels_and_colours_the_map(measured):
    page = measured.page
    tile = page.locator(FORWARD)
    assert re.search(r"(ms|s)\b", tile.inner_text())
    told = tile.get_attribute("title")
    assert "measured on this machine" in told
    assert re.search(r"kernels: .+ × \d+", told)
    details = page.get_by_test_id("details")
    details.press("Enter")
    lines = page.get_by_test_id("measured").locator("li")
    assert "\n".join(lines.all_inner_texts()) == told
    assert details.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    page.get_by_test_id("measured").wait_for(state="hidden")
    page.get_by_label("Colour by").select_option("time")
    page.get_by_text("Slowest layers by").wait_for()
    first = page.locator("[data-testid=worst] .ql-worst-value").first
    first.filter(has_text="%").wait_for()
    assert re.fullmatch(
        r"(.+ \d+ %, )+between layers \d+ % of \d+(\.\d+)? m?s",
        page.get_by_test_id("parts").inner_text(),
    )
    page.locator(".ql-facts", has_text=re.compile(r"ms \(.+ %\)")).wait_for()
    page.get_by_role("tab", name="Decide").click()
    page.get_by_test_id("undecided").get_by_role("button", name="3 bits").click()
    assert page.get_by_test_id("budget").inner_text().startswith(megabytes(page, "3 bits"))
    milliseconds = page.get_by_role("button", name="ms", exact=True)
    milliseconds.click()
    page.get_by_test_id("budget").filter(has_text="a forward pass").wait_for()


def megabytes(page, bits):
    """What the page before a search says that equal bits weigh."""
    return (
        page.get_by_test_id("undecided")
        .get_by_role("button", name=bits)
        .inner_text()
        .removeprefix(bits)
        .strip()
    )


def test_a_simulated_layer_says_so_and_a_click_makes_it_run(bench):
    bench.open()
    page = bench.page
    page.get_by_label("Bits per activation", exact=True).select_option("16")
    offer = page.get_by_test_id("simulated")
    offer.wait_for(timeout=PATIENCE)
    assert "its input is not rounded" in offer.get_attribute("title")
    offer.click()
    offer.wait_for(state="hidden", timeout=PATIENCE)
    assert page.get_by_label("Bits per activation", exact=True).input_value() == "8"


def test_the_model_is_written_and_a_fresh_process_runs_it(bench, exports):
    for left in exports.iterdir():  # by a first try
        shutil.rmtree(left)
    bench.begin()
    bench.tab("Recipe")
    page = bench.page
    page.get_by_label("Name of the folder").fill("taken away")
    page.get_by_test_id("export-packed").click()
    told = page.get_by_test_id("exported")
    told.wait_for(timeout=PATIENCE)
    assert "smaller than float32" in told.inner_text()
    code = told.locator("code").inner_text()
    replaced_only_after_a_yes(page, exports / "taken-away")
    refused_until_static(page, exports / "taken-away-onnx")
    assert str(exports / "taken-away") in code
    script = f"import quantlab as ql; {code}; print(model.predict(ql.load_scene('demo').images).points.shape)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=200)
    assert re.fullmatch(r"\(4, \d+, \d+, 3\)", ran.stdout.strip())


def replaced_only_after_a_yes(page, folder):
    """A second export under one name asks; another name takes the question away, Overwrite answers it."""
    first = (folder / "quantlab.json").stat().st_ino
    page.get_by_test_id("export-packed").click()
    overwrite = page.get_by_test_id("overwrite")
    overwrite.wait_for(timeout=PATIENCE)
    assert page.get_by_test_id("copy-exported").is_hidden(), "one state at a time"
    assert page.get_by_test_id("message").is_hidden()
    page.get_by_label("Name of the folder").fill("another")
    assert overwrite.is_hidden()
    page.get_by_label("Name of the folder").fill("taken away")
    page.get_by_test_id("export-packed").click()
    overwrite.click(timeout=PATIENCE)
    page.get_by_test_id("copy-exported").wait_for(timeout=PATIENCE)
    assert (folder / "quantlab.json").stat().st_ino != first
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def refused_until_static(page, folder):
    """ONNX holds no scales that are taken from each input: a box gives them up, and without it ONNX refuses."""
    static = page.get_by_test_id("static")
    assert static.is_checked()
    static.uncheck()
    page.get_by_test_id("export-onnx").click()
    refusal = page.get_by_test_id("message")
    refusal.wait_for(state="visible", timeout=PATIENCE)
    assert "cannot hold" in refusal.inner_text()
    assert page.get_by_test_id("exported").is_hidden(), "one state at a time"
    assert not folder.exists()
    static.check()
    if find_spec("onnxruntime") is None or find_spec("onnxscript") is None:
        return
    page.get_by_test_id("export-onnx").click()
    told = page.get_by_test_id("exported").filter(has_text="static")
    told.wait_for(timeout=PATIENCE)
    assert refusal.is_hidden()
    assert "asks A4" in told.inner_text()
    assert str(folder) in told.locator("code").inner_text()
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "recipe.yaml"]
