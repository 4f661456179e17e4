"""A small lab and its report, once plain and once with names like markup everywhere; no test stands here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import quantlab as ql
from quantlab.models.model import Model
from quantlab.report.data import ReportData, gather
from quantlab.report.page import page

CONFIG = {
    "patch_size": 8,
    "aggregator": {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_register_tokens": 1},
    "vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}
MARKUP = "</script><img src=x onerror=alert(1)>"
HOSTILE = f"{MARKUP}<!--<script>\"'><svg onload=alert(2)>\u2028 ]]> &lt;b&gt; {{x}} </style></title>"


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    return ql.build_model("vggt", CONFIG)


@pytest.fixture(scope="session")
def make_lab(network: nn.Module) -> Callable[..., ql.Lab]:
    """A lab on the small network; the names are those of everything that can be called something."""

    def make(name: str = "tiny", recipe: ql.Recipe | None = None) -> ql.Lab:
        scenes = [
            replace(scene, name=f"{name} scene {index}")
            for index, scene in enumerate(ql.rooms(2, views=2, size=32, seed=0, split="held-out"))
        ]
        calibration = [replace(scenes[0], name=f"{name} seen")]
        chosen = recipe or ql.Recipe.preset("quarot", weights=4, activations=4)
        return ql.Lab(Model(network, name=name), calibration=calibration, evaluation=scenes, recipe=chosen)

    return make


@pytest.fixture(scope="session")
def lab(make_lab: Callable[..., ql.Lab]) -> ql.Lab:
    return make_lab()


@pytest.fixture(scope="session")
def data(lab: ql.Lab) -> ReportData:
    return gather(lab, points=5000, note="First line.\nSecond line.", command="quantlab report --out r.html")


@pytest.fixture(scope="session")
def html(data: ReportData) -> str:
    return page(data).decode()


@pytest.fixture(scope="session")
def hostile(make_lab: Callable[..., ql.Lab]) -> str:
    """Model, scenes, recipe, note, command, layers and what went wrong are called like markup."""
    recipe = replace(ql.Recipe.preset("rtn", weights=3, activations=4), name=HOSTILE)
    found = gather(make_lab(HOSTILE, recipe), points=5000, note=HOSTILE, command=HOSTILE)
    worst = tuple(replace(view, reading=HOSTILE, reason=HOSTILE) for view in found.worst)
    evaluation = replace(found.evaluation, problems=(HOSTILE,))
    layers = [replace(layer, name=f"{HOSTILE}.{layer.name}") for layer in found.layers]
    renamed = {old.name: new.name for old, new in zip(found.layers, layers, strict=True)}
    plan = replace(
        found.plan,
        layers={renamed[name]: replace(one, reason=HOSTILE) for name, one in found.plan.layers.items()},
        warnings=(HOSTILE,),
    )
    diagnosis = replace(
        found.diagnosis, layers={renamed[name]: error for name, error in found.diagnosis.layers.items()}
    )
    profile = replace(
        found.profile, layers={renamed[name]: seen for name, seen in found.profile.layers.items()}
    )
    return page(
        replace(
            found,
            worst=tuple(replace(view, name=renamed[view.name]) for view in worst),
            evaluation=evaluation,
            layers=tuple(layers),
            plan=plan,
            diagnosis=diagnosis,
            profile=profile,
        )
    ).decode()


class Reader(HTMLParser):
    """The file as an HTML parser sees it: elements with their attributes, and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "img", "br", "input"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "every element is closed where it was opened"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def of(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        """The texts that stand directly in elements of this name."""
        return [text for name, text in self.texts if name == tag]

    @property
    def said(self) -> str:
        """What a person can read."""
        return " ".join(text for name, text in self.texts if name not in {"script", "style"})


@pytest.fixture(scope="session")
def read() -> type[Reader]:
    return Reader


def data_of(html: str) -> dict[str, Any]:
    """The data that the page's script reads."""
    start = html.index('id="ql-data">') + len('id="ql-data">')
    return dict(json.loads(html[start : html.index("</script>", start)]))


@pytest.fixture(scope="session")
def page_data() -> Callable[[str], dict[str, Any]]:
    return data_of


@pytest.fixture
def weights(network: nn.Module, tmp_path: Path) -> Path:
    """The small network as a file that loads by its path."""
    path = tmp_path / "small.safetensors"
    save_file(dict(network.state_dict()), path, metadata={"kind": "vggt", "config": json.dumps(CONFIG)})
    return path
