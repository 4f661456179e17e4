"""Choosing kernels for a network: by measurement, by name, once for each kind of layer, and with reasons."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.errors import DeviceError, RecipeError
from quantlab.kernels import check, choose
from quantlab.kernels.choose import execute
from quantlab.kernels.compensated import Wrapper
from quantlab.kernels.reference import SimulatedConv2d, SimulatedLinear
from quantlab.kernels.table import KERNELS, Choice


class Network(nn.Module):
    """Two layers of one kind, one of another, one that stands under two names, a convolution and a plain layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.wide = quantized(16, 16), quantized(16, 16), quantized(16, 32)
        self.again = self.wide
        self.conv = build_layer("conv", nn.Conv2d(2, 2, 1), LayerSettings(weights=4), seed=0, data=None)
        self.plain = nn.Linear(32, 4)

    def forward(self, x):
        return self.plain(self.again(self.second(self.first(x))) + self.wide(x))


def quantized(inputs, outputs, **settings):
    chosen = LayerSettings(**{"weights": 8, "activations": 8, **settings})
    return build_layer("layer", nn.Linear(inputs, outputs), chosen, seed=0, data=None)


class Named:
    """A kernel that computes as the simulation does, under a name and a time of its own."""

    exact = 1e-5

    def __init__(self, spoil=lambda y: y) -> None:
        self.spoil, self.prepared = spoil, 0

    def absent(self, device):
        return ""

    def refuses(self, layer):
        return "its width is odd" if layer.out_features % 2 else ""

    def prepare(self, layer):
        self.prepared += 1
        return Same(layer, self.spoil)


class Same(nn.Module):
    def __init__(self, layer, spoil) -> None:
        super().__init__()
        self.layer, self.spoil = copy.deepcopy(layer), spoil

    def forward(self, x):
        return self.spoil(self.layer(x))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """What other tests found is forgotten, and what these find."""
    monkeypatch.setattr(choose, "_verdicts", {})


@pytest.fixture
def table(monkeypatch):
    """Two kernels beside the reference, and no others; each takes as long as is said here."""
    times = {"quick": 1.0, "slow": 5.0, "reference": 9.0}
    entries = {"reference": KERNELS["reference"], "quick": Named(), "slow": Named()}
    monkeypatch.setattr(KERNELS, "_entries", entries)

    def took(module, x, *, best):
        owner = next(
            (
                name
                for name, kernel in entries.items()
                if getattr(module, "spoil", 0) is getattr(kernel, "spoil", 1)
            ),
            "reference",
        )
        return times[owner]

    monkeypatch.setattr(choose, "milliseconds", took)
    entries["quick"].spoil, entries["slow"].spoil = (lambda y: y), (lambda y: y * 1)
    return entries, times


def test_the_fastest_is_taken_and_the_others_are_told(table):
    network = Network()
    execution = execute(network)
    choice = execution.layers["first"]
    assert choice.kernel == "quick"
    assert choice.milliseconds == {"quick": 1.0, "slow": 5.0, "reference": 9.0}
    assert choice.skipped == {"slow": "slower than quick", "reference": "slower than quick"}
    assert execution.kernels == {"quick": 3}
    assert "3 quick" in execution.summary()
    assert "slow: slower than quick (3 layers)" in execution.summary()


def test_a_kernel_that_is_wrong_is_never_executed_however_fast(table):
    entries, _ = table
    entries["quick"].spoil = lambda y: y + 1
    network = Network()
    before, x = network(torch.ones(2, 16)), torch.ones(2, 16)
    execution = execute(network)
    assert execution.kernels == {"slow": 3}
    assert "off by" in execution.layers["first"].skipped["quick"]
    torch.testing.assert_close(network(x), before)


def test_a_kernel_that_was_passed_over_unchecked_is_not_taken_when_a_faster_one_follows(table):
    entries, times = table
    entries["last"] = Named(lambda y: y * 1.0)
    entries["slow"].spoil = lambda y: y + 1
    times |= {"quick": 1.2, "slow": 1.0, "last": 0.9}
    execution = execute(Network())
    assert execution.kernels == {"last": 3}
    reasons = {name: choice.skipped["slow"] for name, choice in execution.layers.items()}
    assert set(reasons.values()) == {"slower than last"}
    assert all("slow" in choice.milliseconds for choice in execution.layers.values()), "speed is no problem"


def test_layers_of_one_kind_are_tried_once_and_those_of_a_process_not_again(table, monkeypatch):
    asked = []
    original = check.Oracle.__init__
    monkeypatch.setattr(
        check.Oracle,
        "__init__",
        lambda self, layer: (asked.append(layer.out_features), original(self, layer))[1],
    )
    execute(Network())
    execute(Network())
    assert asked == [16, 32]


def test_only_one_layer_of_a_kind_has_its_weight_read(monkeypatch):
    network = nn.Sequential(*(quantized(16, 16) for _ in range(4)))
    for layer in network:
        layer.keep_packed()
    read = set()
    original = SimulatedLinear.codes
    monkeypatch.setattr(SimulatedLinear, "codes", lambda self: (read.add(id(self)), original(self))[1])
    execute(network)
    assert len(read) == 1


def test_a_layer_under_two_names_stays_one_and_convolutions_and_plain_layers_stay(table):
    network = Network()
    plain = network.plain
    execute(network)
    assert network.again is network.wide
    assert not isinstance(network.wide, SimulatedLinear)
    assert isinstance(network.conv, SimulatedConv2d)
    assert network.plain is plain


@pytest.mark.parametrize("kernel", ["auto", "reference", "onednn", "int_mm"])
def test_a_network_computes_the_same_on_any_kernel(kernel):
    network = Network()
    x = torch.randn(7, 16)
    with torch.no_grad():
        before = network(x)
        if why := "" if kernel == "auto" else KERNELS[kernel].absent(torch.device("cpu")):
            pytest.skip(why)
        execution = execute(network, kernel=kernel)
        torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-4)
    assert set(execution.layers) == {"first", "second", "wide"}


def test_a_layer_inside_stand_ins_is_reported_by_its_own_name(table):
    network = nn.ModuleDict(
        {"attn": Wrapper(nn.ModuleDict({"qkv": Wrapper(quantized(16, 16)), "inner": quantized(16, 16)}))}
    )
    execution = execute(network)
    assert set(execution.layers) == {"attn.qkv", "attn.inner"}
    assert isinstance(network["attn"].inner["qkv"].inner, Same)


def test_a_named_kernel_is_taken_although_it_is_slower_and_what_it_refuses_is_simulated(table):
    network = nn.Sequential(quantized(16, 16), quantized(16, 5))
    execution = execute(network, kernel="slow")
    assert execution.layers["0"] == Choice("slow")
    assert execution.layers["1"] == Choice("reference", {"slow": "its width is odd"})
    assert isinstance(network[1], SimulatedLinear)


def test_without_measuring_the_first_that_is_right_is_taken(table):
    table[0]["quick"].spoil = lambda y: y * 2
    execution = execute(Network(), measure=False)
    assert execution.kernels == {"slow": 3}
    assert execution.layers["first"].milliseconds == {}


def test_a_kernel_that_rounds_otherwise_runs_only_where_it_is_named():
    network = nn.Sequential(quantized(16, 16))
    execution = execute(network)
    assert "fp8" not in {**execution.layers["0"].skipped, **execution.layers["0"].milliseconds}
    with pytest.raises(DeviceError, match="it runs on an NVIDIA GPU"):
        execute(nn.Sequential(quantized(16, 16)), kernel="fp8")


@pytest.mark.parametrize("why", ["absent", "refused", "wrong"])
def test_a_named_kernel_that_can_execute_nothing_is_an_error_and_nothing_was_exchanged(table, why):
    entries, _ = table
    network, kernel = nn.Sequential(quantized(16, 15), quantized(15, 15)), entries["slow"]
    if why == "absent":
        kernel.absent = lambda device: "its library is not installed"
    elif why == "wrong":
        network = nn.Sequential(quantized(16, 16))
        kernel.spoil = lambda y: y + 1
    words = {"absent": "its library is not installed", "refused": "its width is odd", "wrong": "it is off by"}
    with pytest.raises(
        DeviceError, match=f"'slow' can execute none of the {len(network)} layers: {words[why]}"
    ):
        execute(network, kernel="slow")
    assert all(isinstance(layer, SimulatedLinear) for layer in network)


def test_a_network_without_quantized_layers_leaves_a_named_kernel_nothing_to_refuse(table):
    assert execute(nn.Sequential(nn.Linear(4, 4)), kernel="slow").kernels == {}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kernel": "onedn"}, "onednn"),
        ({"kernel": "none"}, "of: auto, "),
        ({"compute": "float16"}, "bfloat16"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_the_known_ones(arguments, problem):
    network = Network()
    with pytest.raises(RecipeError, match=problem):
        execute(network, **arguments)
    assert isinstance(network.first, SimulatedLinear)


def test_two_threads_may_load_at_once():
    networks = [Network(), Network()]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(execute, networks)
    assert {name: choice.kernel for name, choice in first.layers.items()} == {
        name: choice.kernel for name, choice in second.layers.items()
    }


def test_a_network_without_quantized_layers_has_nothing_to_execute():
    execution = execute(nn.Sequential(nn.Linear(4, 4)))
    assert (dict(execution.layers), execution.summary().split(";")[0]) == ({}, "no layers")


def test_what_is_executed_already_stays_when_the_rest_is_executed():
    network = nn.Sequential(quantized(16, 16, activations=16), quantized(16, 16))
    execute(network, kernel="dequantized")
    first, x = network[0], torch.randn(3, 16)
    expected = network(x)
    assert list(execute(network, kernel="reference").layers) == ["1"]
    assert network[0] is first
    assert torch.equal(network(x), expected)
