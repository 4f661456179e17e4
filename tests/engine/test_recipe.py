"""Recipes: what they accept, what wins, and that they survive being written down."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe, Rule
from quantlab.engine.settings import FIELDS, LAYER_FIELDS, LayerSettings, Settings
from quantlab.errors import RecipeError, StorageError
from quantlab.models.structure import describe
from quantlab.models.zoo import build_model

TINY = {
    "aggregator": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}
FC2 = "aggregator.frame_blocks.1.mlp.fc2"


@pytest.fixture(scope="module")
def structure():
    torch.manual_seed(0)
    return describe(build_model("vggt", TINY))


def one_field():
    """A field and a value it takes."""

    def values(name):
        meta = FIELDS[name].metadata
        if "choices" in meta:
            return st.sampled_from(meta["choices"])
        if type(meta["low"]) is float:
            numbers = st.floats(meta["low"], meta["high"])
            return st.none() | numbers if meta.get("optional") else numbers
        return st.integers(meta["low"], meta["high"])

    # static activations need a granularity to go with them, which is another test
    names = sorted(set(FIELDS) - {"activation_mode"})
    return st.sampled_from(names).flatmap(lambda name: values(name).map(lambda value: (name, value)))


def recipes():
    pattern = st.sampled_from(["*", FC2, "*.mlp", "*.qkv", "x: {y}", "Ünïcode # '\""])
    some = st.lists(one_field(), max_size=4).map(dict)
    rules = st.lists(st.builds(lambda p, s: Rule(p, Settings(s)), pattern, some), max_size=4)
    return st.builds(
        lambda name, scope, defaults, rules, seed: Recipe(
            name, scope, Settings(defaults), tuple(rules), seed
        ),
        st.text(max_size=10).filter(str.isprintable),
        st.sampled_from(["trunk", "linears", "all"]),
        some,
        rules,
        st.integers(0, 2**63 - 1),
    )


@given(recipe=recipes())
@settings(max_examples=60, deadline=None)
def test_a_recipe_comes_back_equal_from_yaml_and_from_json(recipe):
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert hash(Recipe.from_json(recipe.to_json())) == hash(recipe)
    assert recipe.diff(Recipe.from_json(recipe.to_json())) == []


@given(recipe=recipes())
@settings(max_examples=30, deadline=None)
def test_the_python_of_a_recipe_builds_layers_that_are_settled_the_same(recipe):
    namespace: dict[str, object] = {}
    exec(recipe.to_python().replace("import quantlab as ql", ""), {"ql": _Names}, namespace)
    built = namespace["recipe"]
    assert isinstance(built, Recipe)
    info = describe(nn.Sequential(nn.Linear(8, 8)))
    assert built.layers(info) == recipe.layers(info)
    assert (built.scope, built.seed, built.name) == (recipe.scope, recipe.seed, recipe.name)


class _Names:
    Recipe = Recipe


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_a_recipe_that_survives_a_file(name, tmp_path):
    recipe = Recipe.preset(name, weights=6, activations=8).set("*.fc2", rotation="none")
    for suffix in ("yaml", "json"):
        recipe.save(tmp_path / f"r.{suffix}")
        assert Recipe.load(tmp_path / f"r.{suffix}") == recipe
    assert f"ql.Recipe.preset({name!r}" in recipe.to_python() or name == "full_precision"


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**6, "8", [8], {}, 4.5, "x.py:Y"])
def test_a_value_outside_its_bounds_is_refused_with_field_and_bounds(name, value):
    meta = FIELDS[name].metadata
    with pytest.raises(RecipeError, match=name) as caught:
        Recipe(defaults=Settings({name: value}))
    bound = str(meta["choices"][0] if "choices" in meta else meta["high"])
    assert bound in caught.value.remedy


@pytest.mark.parametrize("value", [True, False, 8.0, "8"])
def test_bits_are_whole_numbers_and_nothing_that_looks_like_them(value):
    with pytest.raises(RecipeError, match="weights"):
        LayerSettings(weights=value)


def test_an_unknown_setting_names_the_nearest_known_one():
    with pytest.raises(RecipeError, match="Did you mean 'rotation'"):
        Recipe().set("*", rotatoin="hadamard")
    with pytest.raises(RecipeError, match="smoothquant"):
        Recipe.preset("smothquant")


def test_static_activations_per_token_are_refused_with_the_reason(structure):
    with pytest.raises(RecipeError, match="number of tokens varies"):
        LayerSettings(activations=8, activation_mode="static")
    recipe = Recipe.preset("rtn").set(FC2, activation_mode="static")
    with pytest.raises(RecipeError, match=FC2):
        recipe.layer(FC2, structure)
    fine = recipe.set(FC2, activation_granularity="tensor").layer(FC2, structure)
    assert fine.static


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ("", "not"),
        ("null", "list of named entries"),
        ('{"format": 2}', "newer QuantLab"),
        ('{"format": 0}', "not known"),
        ('{"format": true}', "not known"),
        ("{}", "does not state its format"),
        ('{"format": 1, "transforms": ["x.py:Y"]}', "unknown entry 'transforms'"),
        ('{"format": 1, "rules": {}}', "not a list"),
        ('{"format": 1, "rules": [{"match": "*"}]}', "match and set"),
        ('{"format": 1, "rules": [{"match": 3, "set": {}}]}', "match"),
        ('{"format": 1, "rules": [{"match": "\\ud800", "set": {}}]}', "match"),
        ('{"format": 1, "name": "\\ud800"}', "name"),
        ('{"format": 1, "seed": -1}', "seed"),
        ('{"format": 1, "seed": 1e400}', "seed"),
        ('{"format": 1, "scope": ["trunk"]}', "scope"),
        ('{"format": 1, "defaults": {"percentile": NaN}}', "percentile"),
        ('{"format": 1, "defaults": {"weights": 4, "weights": 8}}', "twice"),
        ('{"format": 1, "defaults": {"rotation": "x.py:Y"}}', "rotation"),
        ("x" * 1_000_001, "too many"),
    ],
)
def test_a_bad_text_is_refused_in_words_whether_read_as_json_or_yaml(text, words):
    caught = []
    for read in (Recipe.from_json, Recipe.from_yaml):
        with pytest.raises(RecipeError) as error:
            read(text)
        caught.append(str(error.value))
    assert any(words in message for message in caught), caught


@pytest.mark.parametrize(
    "value", ["!!bool perhaps", "!!timestamp soon", '!!int ""', '!!float ""', "2001-99-99"]
)
def test_a_value_that_is_not_what_its_tag_says_is_refused(value):
    with pytest.raises(RecipeError, match="impossible value"):
        Recipe.from_yaml(f"format: 1\nname: {value}")


@pytest.mark.parametrize("text", ["format: 9", "format: 1\nscope: moon", "format: 1\ndefaults: {weights: 1}"])
def test_a_bad_file_is_named_whichever_entry_is_wrong(text, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"mine\.yaml"):
        Recipe.load(file)


@pytest.mark.parametrize(
    "text", ["a: &x 1\nb: *x", "!!python/object/apply:os.system [ls]", "? [1]\n: 2", "a: 2020-99-99"]
)
def test_yaml_that_is_more_than_data_is_refused(text):
    with pytest.raises(RecipeError):
        Recipe.from_yaml(text)


def test_files_that_are_no_recipe_say_which_file(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        Recipe.load(bad)
    with pytest.raises(StorageError, match="cannot read"):
        Recipe.load(tmp_path / "absent.yaml")
    for name in (".", "x" * 300, "nul\0"):
        with pytest.raises(StorageError):
            Recipe.load(tmp_path / name)


def test_the_last_matching_rule_wins_field_by_field(structure):
    recipe = Recipe.preset("quarot").set("*.mlp.*", weights=8, smoothing=0.3).set("*.fc2", weights=6)
    settled = recipe.layer(FC2, structure)
    assert (settled.weights, settled.smoothing, settled.rotation) == (6, 0.3, "hadamard")


def test_a_pattern_of_a_module_holds_for_everything_inside_but_not_for_its_namesakes(structure):
    recipe = Recipe.preset("rtn").set("*.frame_blocks.1", weights=8)
    eights = {
        name for name, layer in recipe.layers(structure).items() if layer.weights == 8 and not layer.keep
    }
    assert eights == set(structure.blocks["aggregator.frame_blocks.1"].layers)
    assert not Rule("a.b", Settings({})).matches("a.bc")
    assert not Rule("*.blocks.1", Settings({})).matches("a.blocks.10.fc")


def test_setting_something_always_takes_effect_and_rules_of_a_pattern_merge(structure):
    recipe = Recipe.preset("rtn").set(FC2, weights=8).set(FC2, rotation="hadamard")
    assert len(recipe.rules) == 1
    hidden = recipe.set("*", weights=3)
    assert hidden.layer(FC2, structure).weights == 3
    again = hidden.set(FC2, weights=8)
    settled = again.layer(FC2, structure)
    assert (settled.weights, settled.rotation) == (8, "hadamard")
    assert again.unset(FC2).layer(FC2, structure).weights == 3


def test_each_scope_reaches_the_layers_its_name_says(structure):
    reached = {
        scope: {n for n, s in Recipe.preset("rtn", scope=scope).layers(structure).items() if s.quantized}
        for scope in ("trunk", "linears", "all")
    }
    assert all(structure.layers[name].stream in ("frame", "global") for name in reached["trunk"])
    assert len(reached["trunk"]) == 16
    assert reached["linears"] == {n for n, layer in structure.layers.items() if layer.operator == "linear"}
    assert reached["all"] == set(structure.layers)


def test_a_module_without_blocks_is_all_trunk_and_one_with_blocks_is_its_blocks():
    plain = describe(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert all(s.quantized for s in Recipe.preset("rtn").layers(plain).values())


def test_a_rule_for_what_is_outside_the_scope_wins_and_a_wide_one_does_not(structure):
    outside = "camera_head.trunk.0.mlp.fc2"
    wide = Recipe.preset("rtn").set("*.fc2", weights=8)
    assert wide.layer(FC2, structure).weights == 8
    assert not wide.layer(outside, structure).quantized
    explicit = Recipe.preset("rtn").set("camera_head.*", weights=8)
    assert explicit.layer(outside, structure).quantized
    assert not Recipe.preset("rtn").set(outside, rotation="hadamard").layer(outside, structure).quantized
    assert Recipe.preset("rtn").set(outside, keep=False).layer(outside, structure).quantized


def test_compensation_takes_true_and_false_and_reaches_the_branch():
    recipe = Recipe().set("*.global_blocks.3.mlp", compensation=True)
    assert recipe.branch("aggregator.global_blocks.3.mlp").compensation == "on"
    assert recipe.branch("aggregator.global_blocks.2.mlp").compensation == "off"
    assert recipe.set("*", compensation=False).branch("aggregator.global_blocks.3.mlp").compensation == "off"


def test_a_diff_names_what_changed_and_from_what():
    old = Recipe.preset("rtn")
    lines = old.diff(old.set(FC2, weights=8))
    assert lines == [f"{FC2}: weights default → 8"]
    assert any("rotation" in line for line in old.diff(Recipe.preset("quarot")))


def test_a_recipe_cannot_be_changed_in_place():
    recipe = Recipe.preset("rtn")
    with pytest.raises(AttributeError):
        recipe.seed = 3
    with pytest.raises(TypeError):
        recipe.defaults["weights"] = 8
    assert json.loads(recipe.to_json())["format"] == 1


def test_every_setting_explains_itself_and_its_default_is_allowed():
    for name, entry in FIELDS.items():
        assert entry.metadata["help"].endswith((".", "off.")), name
    assert LayerSettings() == LayerSettings(**{name: entry.default for name, entry in LAYER_FIELDS.items()})


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.only == "both"])
def test_bits_that_are_left_out_are_those_the_method_was_made_for(name):
    weights, activations = PRESETS[name].usual
    assert Recipe.preset(name) == Recipe.preset(name, weights=weights, activations=activations)
    assert Recipe.preset(name, weights=6).defaults["activations"] == activations
