"""What builds the HTML: text stays text, whatever stands in it."""

from __future__ import annotations

import html
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.report.markup import Markup, json_block, raw, tag, text


@given(st.text())
def test_text_is_what_the_reader_sees_and_never_markup(words: str) -> None:
    made = text(words)
    assert "<" not in made
    assert ">" not in made
    assert html.unescape(made) == words


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_an_attribute_ends_where_its_value_ends(value: str) -> None:
    made = tag("p", class_=value)
    inner = made.removeprefix('<p class="').removesuffix('"></p>')
    assert '"' not in inner
    assert html.unescape(inner) == value


def test_markup_is_taken_as_it_is_and_everything_else_is_escaped() -> None:
    assert tag("p", tag("b", "1 < 2"), " & ", 3, None, ["a", ["b"]]) == "<p><b>1 &lt; 2</b> &amp; 3ab</p>"


def test_attributes_that_are_off_are_not_there() -> None:
    made = tag("option", "x", hidden=False, selected=True, title=None, aria_label="a", class_="c")
    assert made == '<option selected aria-label="a" class="c">x</option>'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_data_survives_and_holds_nothing_that_html_or_javascript_would_read(data: object) -> None:
    block = json_block("d", data)
    inner = block.removeprefix('<script type="application/json" id="d">').removesuffix("</script>")
    assert json.loads(inner) == data
    assert inner.isascii()
    assert not set("<>&") & set(inner)


def test_what_is_no_number_becomes_null() -> None:
    assert "[null,null,1.5]" in json_block("d", [float("nan"), float("inf"), 1.5])


@pytest.mark.parametrize("content", ["a</script b", "a</SCRIPT>", "<!-- x"])
def test_a_script_that_would_end_itself_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="cannot stand"):
        raw("script", content)


def test_markup_is_a_text() -> None:
    assert isinstance(tag("p"), Markup)
    assert tag("rect", x=1) == '<rect x="1"/>'
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
