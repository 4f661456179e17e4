"""The three things every fault must show: a clear refusal or a stated result, an unchanged lab, a next good action."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import quantlab as ql
from quantlab.engine import reconstruct
from quantlab.engine.replay import BlockCache
from quantlab.models.model import Model

SIZE = 32
CONFIG = {
    "aggregator": {"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 24, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}
"""A VGGT with every part but the tracker, whose forward takes about 10 ms."""

MEMORY = ("_history", "_listeners", "_references", "_profile", "_recent", "_tail_errors")
"""What a lab remembers, apart from the block cache."""

Check = AbstractContextManager[Any]


@pytest.fixture(scope="session")
def model() -> Model:
    """The tiny VGGT, shared by all: that no test changes it is what `unchanged` asserts."""
    torch.manual_seed(0)
    return Model(ql.build_model("vggt", CONFIG), name="tiny")


@pytest.fixture(scope="session")
def scene() -> Any:
    """A room seen from two sides."""
    return ql.rooms(1, views=2, size=SIZE, seed=0)[0]


@pytest.fixture(scope="session")
def make_lab(model: Model, scene: Any) -> Callable[..., ql.Lab]:
    """A new lab; any argument of `Lab` can be another."""

    def make(tested: Any = model, **other: Any) -> ql.Lab:
        settings = {"calibration": scene, "evaluation": scene, "recipe": ql.Recipe.preset("rtn")}
        return ql.Lab(tested, **(settings | other))

    return make


@pytest.fixture(scope="session")
def bench(make_lab: Callable[..., ql.Lab]) -> tuple[ql.Lab, dict[str, Any]]:
    """The lab that all faults meet, and what it was at first."""
    made = make_lab()
    made.set("*blocks.0*", weights=8)
    made.evaluate()
    made.set("*blocks.1*", weights=3)
    made.undo()
    return made, {name: copy.copy(vars(made)[name]) for name in MEMORY}


@pytest.fixture
def lab(bench: tuple[ql.Lab, dict[str, Any]]) -> ql.Lab:
    """A lab with an edit and results behind it, and one edit undone, which `redo` finds unmeasured."""
    made, first = bench
    vars(made).update({name: copy.copy(value) for name, value in first.items()}, _blocks=BlockCache())
    return made


@pytest.fixture
def save_weights(model: Model) -> Callable[..., Path]:
    """Write the model's weights, with some exchanged, as a file that loads by its path."""

    def save(path: Path, metadata: dict[str, str] | None = None, **changed: Any) -> Path:
        tensors = dict(model.network.state_dict()) | changed
        known = {"kind": "vggt", "config": json.dumps(CONFIG)}
        save_file(
            {name: tensor for name, tensor in tensors.items() if tensor is not None},
            path,
            metadata=known if metadata is None else metadata,
        )
        return path

    return save


def state(lab: ql.Lab) -> SimpleNamespace:
    """Everything of a lab that a refused action could have changed."""
    results: dict[Any, Any] = {**lab._recent, **lab._references, "profile": lab._profile}
    return SimpleNamespace(
        edits=(lab.recipe, lab.history, lab.can_undo, lab.can_redo),
        results={key: result for key, result in results.items() if result is not None},
        weights={name: value.clone() for name, value in lab._subject.network.state_dict().items()},
    )


def traces(network: nn.Module) -> list[str]:
    """Submodules on which something was left behind."""
    return [
        name
        for name, module in network.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


@pytest.fixture
def unchanged(lab: ql.Lab) -> Callable[..., Check]:
    """``with unchanged(): ...`` asserts that ``lab``, or the one passed, is as before, and that it works."""

    @contextmanager
    def check(lab: ql.Lab = lab) -> Iterator[None]:
        before = state(lab)
        yield
        after = state(lab)
        assert after.edits == before.edits
        assert all(after.results[key] is result for key, result in before.results.items())
        assert all(torch.equal(after.weights[name], value) for name, value in before.weights.items())
        for network in (lab._subject.network, lab._quantizer.network, lab._quantizer.reference):
            assert not traces(network)
        lab.set("*", activations=8)
        assert lab.evaluate().full_precision.outputs
        lab.undo()
        assert lab.recipe == before.edits[0]

    return check


@pytest.fixture
def refused(unchanged: Callable[..., Check]) -> Callable[..., Check]:
    """``with refused("place"): ...`` asserts all three things of what happens in the block."""

    @contextmanager
    def check(*told: str, **which: ql.Lab) -> Iterator[Any]:
        with unchanged(**which):
            with pytest.raises(ql.QuantLabError) as caught:
                yield caught
            error = caught.value
            assert error.problem
            assert error.remedy
            assert str(error).isprintable()
            for part in told:
                assert part in str(error)

    return check


@pytest.fixture
def tab(model: Model, scene: Any) -> SimpleNamespace:
    """One browser tab of the app on the tiny model, open and measured: ``.actions``, ``.page``, ``.session``."""
    from quantlab.app.actions import Actions
    from quantlab.app.options import Options
    from quantlab.app.state import Store
    from quantlab.app.workshop import Workshop

    class TinyWorkshop(Workshop):
        def model(self, name: str) -> Model:
            return model

        def scene(self, source: Any) -> Any:
            return scene if source == "demo" else super().scene(source)

    store = Store()
    actions = Actions(store, TinyWorkshop(Options()))
    list(actions.act("tab", {"do": "ready"}))
    return SimpleNamespace(actions=actions, page="tab", session=store.of("tab"), store=store)


@pytest.fixture
def tab_refuses(tab: SimpleNamespace) -> Callable[..., dict[str, str]]:
    """What an action of the tab is told; its lab, view and results are asserted to be those before."""

    def check(parts: Iterator[Any]) -> dict[str, str]:
        session, before = tab.session, state(tab.session.lab)
        lab, results, shown = session.lab, session.results, session.scene
        list(parts)
        assert session.lab is lab
        assert session.results is results
        assert session.scene == shown
        assert session.job is None
        assert state(lab).edits == before.edits
        return session.message

    return check


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn for three epochs instead of fifteen: what is learned matters to no fault, that it is learned does."""
    whole = reconstruct.Schedule
    monkeypatch.setattr(reconstruct, "Schedule", lambda **given: whole(**{**given, "epochs": 3}))
