"""Faults R1 to R11 and H9: recipes from a stranger, a newer version, or a tired person."""

from __future__ import annotations

import json
import math

import pytest

import quantlab as ql


def shown(value: object) -> str:
    return ascii(value)[:12]


def written(**changes: object) -> str:
    return json.dumps({**ql.Recipe.preset("rtn").to_dict(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "not a recipe",
        "[1, 2]",
        "null",
        "[" * 100_000,
        "{" * 100_000,
        '{"a": ' * 5000,
        "\0",
        "\N{BOM}{}",
    ],
    ids=shown,
)
@pytest.mark.parametrize("read", [ql.Recipe.from_json, ql.Recipe.from_yaml], ids=["json", "yaml"])
def test_r1_what_is_no_recipe_is_refused(lab, refused, read, text: str) -> None:
    with refused():
        lab.recipe = read(text)


def test_r1_a_file_that_is_no_text_is_refused_by_name(lab, refused, tmp_path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00\x01" * 100)
    with refused("recipe.yaml"):
        lab.recipe = ql.Recipe.load(tmp_path / "recipe.yaml")


def test_r2_an_unknown_entry_is_named(lab, refused) -> None:
    with refused("colour"):
        lab.recipe = ql.Recipe.from_json(written(colour="red"))


@pytest.mark.parametrize("number", [0, -1, "1", None, 1.5, True])
def test_r3_another_format_number_is_refused(lab, refused, number: object) -> None:
    with refused("format"):
        lab.recipe = ql.Recipe.from_json(written(format=number))


@pytest.mark.parametrize("bits", [True, 8.0, "8", math.nan, 1, 9, 17, -4, 10**400, None, [8]], ids=shown)
def test_r4_bits_that_are_no_bits_are_refused_where_they_stand(lab, refused, bits: object) -> None:
    with refused("weights"):
        lab.set("*blocks.0*", weights=bits)


def test_r4_an_overflowing_number_in_a_file_is_refused(lab, refused) -> None:
    with refused("weights"):
        lab.recipe = ql.Recipe.from_json(written(defaults={"weights": 4}).replace("4", "1e400"))


@pytest.mark.parametrize(
    "method", ["quantlab/evil.py:Rotation", "os.system", "../rotation", "hadamar", "Hadamard"]
)
def test_r5_r6_a_method_is_a_known_name_and_never_a_path(lab, refused, method: str) -> None:
    with refused("hadamard"):
        lab.set("*", rotation=method)


def test_r6_an_unknown_preset_lists_the_known(lab, refused) -> None:
    with refused("rtn", "quarot", "taptq"):
        lab.recipe = ql.Recipe.preset("magic")


def test_r7_a_group_size_that_does_not_divide_a_layer_is_refused_before_work_and_names_the_layer(
    lab, refused
) -> None:
    with refused("16", "aggregator.frame_blocks.0.attn.qkv", "24"):
        lab.set("*", weight_granularity="group", group_size=16)


def test_r8_a_rule_that_matches_nothing_is_told(lab) -> None:
    lab.recipe = lab.recipe.set("*.global_blokcs.3.*", weights=8)
    assert any("global_blokcs" in warning for warning in lab.plan().warnings)


def test_r8_a_recipe_that_keeps_everything_is_told(lab) -> None:
    lab.recipe = lab.recipe.set("*", keep=True)
    plan = lab.plan()
    assert not any(layer.quantized for layer in plan.layers.values())
    assert plan.warnings


@pytest.mark.parametrize(
    "text",
    [
        "format: 1\nname: a\nname: b\n",
        "format: 1\ndefaults: {weights: 4, weights: 8}\n",
        '{"format": 1, "seed": 0, "seed": 1}',
    ],
    ids=shown,
)
def test_r9_what_is_said_twice_is_refused(lab, refused, text: str) -> None:
    with refused("twice"):
        lab.recipe = ql.Recipe.from_yaml(text)


@pytest.mark.parametrize(
    "settings",
    [{"rotation": ["hadamard", "hadamard"]}, {"smoothing_order": "around"}, {"smoothing": [0.5, 0.5]}],
    ids=shown,
)
def test_r9_a_transform_twice_or_in_an_order_there_is_not_is_refused(lab, refused, settings) -> None:
    with refused(next(iter(settings))):
        lab.set("*", **settings)


def test_r10_a_recipe_made_for_another_network_says_that_its_rules_match_nothing(lab) -> None:
    lab.recipe = ql.Recipe.preset("rtn").set("decoder.0.attn.qkv", weights=8)
    assert any("decoder.0.attn.qkv" in warning for warning in lab.plan().warnings)
    assert lab.evaluate().full_precision.outputs


def test_r11_a_recipe_of_a_newer_quantlab_says_so(lab, refused) -> None:
    with refused("newer"):
        lab.recipe = ql.Recipe.from_json(written(format=2, invention={"a": 1}))


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [exploded]",
        "format: 1\nname: !!python/name:os.mkdir\n",
        "format: 1\nname: &a [*a]\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nformat: 1\n",
    ],
    ids=shown,
)
def test_h9_a_recipe_from_a_stranger_is_data_only(lab, refused, tmp_path, monkeypatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("recipe"):
        lab.recipe = ql.Recipe.from_yaml(text)
    assert not list(tmp_path.iterdir())
