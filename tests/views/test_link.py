"""Links carry model, scene and recipe as they are and stay short; a bad one can do no more than be refused."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.errors import QuantLabError, RecipeError, StorageError
from quantlab.views import link
from quantlab.views.link import link_of, open_link, pack, unpack

LAYER = "aggregator.global_blocks.3.mlp.fc2"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_what_is_linked_is_opened(preset: str) -> None:
    recipe = Recipe.preset(preset).set(LAYER, weights=8).set("*.frame_blocks.0", keep=True)
    text = link_of("mini", "room 3", recipe, LAYER)
    opened = open_link("http://127.0.0.1:7860/" + text + "&__theme=dark#top")
    assert (opened.model, opened.scene, opened.recipe, opened.layer) == ("mini", "room 3", recipe, LAYER)
    assert open_link(text) == open_link(text.partition("=")[2]) == opened
    assert len(text) < 600


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_packing_keeps_any_text_and_uses_letters_that_an_address_may_hold(text: str) -> None:
    packed = pack(text)
    assert unpack(packed, place="link") == text
    assert set(packed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_a_recipe_too_long_for_a_link_is_said_with_what_to_do() -> None:
    recipe = Recipe()
    for index in range(300):
        recipe = recipe.set(hashlib.sha256(bytes([index % 256, index // 256])).hexdigest(), weights=4)
    with pytest.raises(RecipeError, match="too long for a link") as caught:
        link_of("mini", "demo", recipe)
    assert "file" in caught.value.remedy


def sent(document: object) -> str:
    return pack(json.dumps(document))


GOOD = {"format": 1, "model": "mini", "scene": "", "layer": "", "recipe": {"format": 1}}
BAD = {
    "empty": "",
    "junk": "hello",
    "not letters": "%%%",
    "not ascii": "ä" * 8,
    "long": "A" * 9000,
    "cut off": sent(GOOD)[:-9],
    "not compressed": base64.urlsafe_b64encode(b"{}").decode(),
    "not JSON": pack("{"),
    "nested": pack("[" * 100_000),
    "a list": sent([]),
    "newer": sent({**GOOD, "format": 2}),
    "no format": sent({**GOOD, "format": "1"}),
    "unknown": sent({**GOOD, "run": "x"}),
    "a model that is no text": sent({**GOOD, "model": ["mini"]}),
    "no recipe": sent({**GOOD, "recipe": None}),
    "a recipe of unknown settings": sent({**GOOD, "recipe": {"format": 1, "defaults": {"exec": "x"}}}),
    "not UTF-8": base64.urlsafe_b64encode(zlib.compress(b"\xff\xfe")).decode(),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_link_is_refused_and_says_what_to_do(fault: str) -> None:
    with pytest.raises((StorageError, RecipeError)) as caught:
        open_link("?s=" + BAD[fault])
    assert caught.value.remedy
    assert ("newer" in str(caught.value)) == (fault == "newer")


@pytest.mark.bad_input
def test_a_link_that_would_fill_the_memory_is_refused_before_it_does(monkeypatch) -> None:
    import tracemalloc

    bomb = base64.urlsafe_b64encode(zlib.compress(bytes(5_000_000), 9)).decode()
    assert len(bomb) < link.LONGEST_LINK
    monkeypatch.setattr(link, "LARGEST_UNPACKED", 100_000)
    tracemalloc.start()
    with pytest.raises(StorageError, match="unpack to more"):
        open_link(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.bad_input
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_a_link_with_one_other_letter_is_the_same_or_refused(place: int, letter: str) -> None:
    whole = sent(GOOD)
    place %= len(whole)
    try:
        opened = open_link(whole[:place] + letter + whole[place + 1 :])
    except QuantLabError:
        return
    assert opened == open_link(whole)
