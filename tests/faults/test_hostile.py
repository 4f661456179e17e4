"""Faults H1 to H11: what strangers send is data, stays where it belongs, and speaks in nobody's name."""

from __future__ import annotations

import itertools
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import quantlab as ql
from quantlab import figures
from quantlab.app.recipes import recipe_panel
from quantlab.calibration.profile_file import load_profile
from quantlab.cli import cli
from quantlab.scenes.scene import Scene

PACKAGE = Path(ql.__file__).parent
MARKUP = "</script><img src=x onerror=alert(1)>"
FORGED = "room\nerror: all is lost\x1b[2J"


class Explosive:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("exploded",)


def pickled(path: Path) -> Path:
    torch.save({"aggregator.camera_token": Explosive()}, path)
    return path


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(2_000_000))
    return path


@pytest.mark.parametrize(
    ("make", "name", "load"),
    [
        (pickled, "hostile.pt", ql.load_model),
        (bomb, "bomb.pt", ql.load_model),
        (bomb, "bomb.npz", load_profile),
    ],
    ids=["H1 pickle", "H2 archive", "H2 profile"],
)
def test_a_hostile_file_runs_nothing_and_fills_no_memory(
    refused, tmp_path: Path, monkeypatch, make, name: str, load
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quantlab.calibration.profile_file.MAX_BYTES", 1_000_000)
    with refused(name):
        load(make(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


PATHS = ["../../etc/passwd", "/etc/passwd", "file=/etc/passwd", "C:\\boot.ini", "..", ""]


def test_h4_h11_a_page_names_no_file_of_this_machine(tab, tab_refuses) -> None:
    for verb, path in itertools.product(("model", "scene", "select", "tab", "left"), PATHS):
        message = {"do": verb, "value": path, "layer": path}
        told = tab_refuses(tab.actions.act(tab.page, message))
        assert not told or "not on the list" in told["problem"]
    list(tab.actions.act(tab.page, {"do": "color_by", "value": "kurtosis"}))
    assert tab.session.view.color_by == "kurtosis"


def test_h11_a_handle_that_was_made_up_opens_nobodys_lab(tab) -> None:
    for page, handle in enumerate(["../", "", "x" * 10_000, {"a": 1}, None, tab.session.handle]):
        next(tab.actions.act(f"stranger {page}", {"do": "ready", "handle": handle}))
        assert tab.store.of(f"stranger {page}") is not tab.session
        assert tab.store.of(tab.page) is tab.session


def test_h11_a_message_that_is_none_changes_nothing(tab, tab_refuses) -> None:
    for message in (None, 3, [], "run", {}, {"do": []}, {"do": "set", "changes": "x"}, {"do": "/etc/passwd"}):
        assert not tab_refuses(tab.actions.act(tab.page, message))


def test_h5_a_layer_named_like_markup_is_measured_and_drawn_as_text() -> None:
    network = nn.Sequential()
    network.add_module(MARKUP, nn.Sequential(nn.Linear(12, 12), nn.GELU()))
    lab = ql.Lab(network, calibration=torch.randn(4, 12))
    name = next(iter(lab.structure.layers))
    assert MARKUP in name
    drawn = figures.layer_histogram(lab.layer(name), name=name)
    page = html_of(drawn)
    assert MARKUP not in page
    assert lab.set(name, weights=8) is None
    assert lab.recipe.rules[-1].pattern == name


def html_of(figure: dict[str, object]) -> str:
    import plotly.graph_objects as go

    return go.Figure(figure).to_html(include_plotlyjs=False)


def test_h5_no_script_of_ours_writes_text_as_markup() -> None:
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc")
    scripts = [
        path
        for folder in ("app/static", "widgets/static", "report/static", "viewer/js")
        for path in (PACKAGE / folder).rglob("*.js")
    ]
    ours = [path for path in scripts if "node_modules" not in path.parts]
    assert len(ours) > 5
    assert not [f"{path.name}: {found[0]}" for path in ours for found in sinks.finditer(path.read_text())]


@pytest.mark.parametrize("verb", ["evaluate", "inspect"])
def test_h10_a_folder_with_a_line_break_in_its_name_forges_no_line(
    tmp_path: Path, save_weights, verb: str
) -> None:
    weights = save_weights(tmp_path / "weights.safetensors")
    folder = tmp_path / FORGED
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    for name in ("1.png", "2.png"):
        Image.fromarray(pixels).save(folder / name)
    told = CliRunner().invoke(
        cli, [verb, "--model", str(weights), "--scenes", str(folder), "--preset", "rtn"]
    )
    assert told.exit_code == 0, told.output
    assert "room?error" in told.stdout
    assert "\x1b" not in told.output
    assert not re.search(r"^error:", told.output, re.MULTILINE)


def test_h10_h5_a_scene_of_any_name_is_measured_and_named_in_errors_on_one_line(
    make_lab, refused, scene
) -> None:
    bench = make_lab(evaluation=Scene(MARKUP + FORGED, scene.images))
    assert bench.evaluate().scenes == (MARKUP + FORGED,)
    bench = make_lab(evaluation=[Scene(FORGED, (np.zeros((1, 900, 3), np.uint8),)), scene])
    with refused("room\\nerror"):
        bench.reference()
    assert bench.compare(1).point_error >= 0


def test_h9_a_recipe_named_like_markup_stays_data(tab) -> None:
    text = json.dumps({"format": 1, "name": MARKUP, "defaults": {"weights": 4}})
    list(tab.actions.act(tab.page, {"do": "recipe", "text": text}))
    assert tab.session.lab.recipe.name == MARKUP
    assert repr(MARKUP) in recipe_panel(tab.session)["python"]
    assert ql.Recipe.from_yaml(recipe_panel(tab.session)["yaml"]).name == MARKUP
