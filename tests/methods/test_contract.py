"""The laws a person tries an own method on: they hold for what is built in, and each notices what breaks it."""

from __future__ import annotations

import pytest
import torch

from quantlab.engine.build import METHODS
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import FIELDS
from quantlab.errors import RecipeError
from quantlab.methods.contract import broken_rounding_laws, broken_transform_laws
from quantlab.methods.rounding import ROUNDINGS
from quantlab.methods.transforms import TRANSFORMS, Transform
from quantlab.numerics.rounding import fake_quantize
from quantlab.registry import _OWN, own_choices

assert METHODS  # imported, so that what is built in is registered


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "smoothing_learned"])
def test_no_built_in_transform_breaks_a_law(name):
    assert broken_transform_laws(TRANSFORMS[name]) == []


@pytest.mark.parametrize("name", list(ROUNDINGS))
def test_no_built_in_rounding_breaks_a_law(name):
    assert broken_rounding_laws(ROUNDINGS[name]) == []


class Doubled(Transform):
    """x times two, and the weight forgets to be halved."""

    def forward(self, x):
        return 2 * x


class Cut(Transform):
    """Loses a channel."""

    def forward(self, x):
        return x[..., :-1]


class Widened(Transform):
    """Answers in float32 whatever it is given."""

    def forward(self, x):
        return x.float()


class Spoiling(Transform):
    """Writes into its argument."""

    def forward(self, x):
        return x.mul_(1.0).add_(0.0) if x.dtype != torch.float32 else x.neg_()

    def fold(self, weight):
        return -weight


class Single(Transform):
    """Folds in single precision."""

    def fold(self, weight):
        return weight.float()


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Doubled, "nothing changes before rounding"),
        (Cut, "an input keeps its shape"),
        (Widened, "an input keeps its dtype"),
        (Spoiling, "no argument is changed"),
        (Single, "the folded weight is float64"),
    ],
)
def test_a_transform_that_breaks_a_law_is_told_which(kind, law):
    assert any(sentence.startswith(law) for sentence in broken_transform_laws(lambda _context: kind()))


def test_a_transform_that_is_another_each_time_is_told():
    class Drawn(Transform):
        def __init__(self):
            super().__init__()
            self.sign = 1 if torch.rand(()) < 0.5 else -1

        def forward(self, x):
            return self.sign * x

        def fold(self, weight):
            return self.sign * weight

    torch.manual_seed(0)
    assert any(
        law.startswith("preparing it twice") for law in broken_transform_laws(lambda _context: Drawn())
    )


def test_a_rounding_off_the_grid_is_told():
    def off(weight, chosen, spec, *, data, order, place):
        return 1.01 * fake_quantize(weight, *chosen, spec)

    assert any(law.startswith("every value lies on the grid") for law in broken_rounding_laws(off))


@pytest.fixture
def own_rotation():
    """A rotation of one's own, entered and taken out again."""

    @TRANSFORMS.register("test_flip", setting="rotation")
    def prepare(context):
        return Transform()

    yield prepare
    del _OWN["rotation"]["test_flip"], TRANSFORMS._entries["test_flip"]


def test_an_own_rotation_can_be_chosen_by_a_recipe_and_every_control(own_rotation):
    recipe = Recipe.preset("rtn").set("*", rotation="test_flip")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert "test_flip" in FIELDS["rotation"].metadata["choices"]
    assert own_choices("rotation") == ("test_flip",)


def test_a_name_that_nobody_registered_is_refused_with_the_own_ones_among_the_known(own_rotation):
    with pytest.raises(RecipeError, match="test_flip"):
        Recipe.preset("rtn").set("*", rotation="test_flop")


def test_an_own_method_can_be_entered_again_but_takes_no_built_in_name(own_rotation):
    TRANSFORMS.register("test_flip", setting="rotation")(own_rotation)
    assert own_choices("rotation") == ("test_flip",)
    with pytest.raises(ValueError, match="registered twice"):
        TRANSFORMS.register("hadamard", setting="rotation")(own_rotation)
