"""Umeyama's similarity: recovered, optimal, proper, refused where clouds do not fix it (faults N19, N20)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from quantlab.errors import NumericError
from quantlab.geometry import umeyama


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), count=st.integers(4, 60), flat=st.booleans())
def test_a_similarity_is_recovered_and_inverted(seed, scale, count, flat):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(count, 3)) * ([1, 1, 0] if flat else [1, 1, 1])
    rotation, shift = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    found = umeyama(source, scale * source @ rotation.T + shift)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(found.inverse().apply(found.apply(source)), source, atol=1e-9)
    homogeneous = np.c_[source, np.ones(count)] @ found.matrix.T
    np.testing.assert_allclose(homogeneous[:, :3], found.apply(source), rtol=1e-9, atol=1e-9)


def test_no_similarity_nearby_fits_noisy_clouds_better():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 50, 3))
    target = target + source
    found = umeyama(source, target)
    best = np.sum((found.apply(source) - target) ** 2)
    for _ in range(50):
        turn = Rotation.from_rotvec(0.05 * rng.normal(size=3)).as_matrix()
        scale = found.scale * (1 + 0.05 * rng.normal())
        other = scale * source @ (turn @ found.rotation).T + found.translation + 0.05 * rng.normal(size=3)
        assert np.sum((other - target) ** 2) >= best


def test_a_mirrored_cloud_is_answered_by_a_rotation():
    source = np.random.default_rng(0).normal(size=(40, 3))
    found = umeyama(source, source * [-1, 1, 1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.scale > 0


def test_a_pair_without_weight_does_not_count_even_if_it_is_not_finite():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(10, 3))
    target = 2 * source + 1
    target[3] = np.nan
    weights = np.ones(10)
    weights[3] = 0
    assert umeyama(source, target, weights).scale == pytest.approx(2)


def test_a_weight_of_two_is_a_point_given_twice():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 6, 3))
    weighted = umeyama(source, target, [2, 1, 1, 1, 1, 1])
    repeated = umeyama(np.r_[source[:1], source], np.r_[target[:1], target])
    np.testing.assert_allclose(weighted.matrix, repeated.matrix, atol=1e-12)


LINE = np.linspace(0, 1, 20)[:, None] * [1.0, 2.0, 3.0] + 0.1
CLOUD = np.random.default_rng(1).normal(size=(20, 3))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.full((20, 3), 0.1), CLOUD),
        (CLOUD, np.full((20, 3), 1e9 / 3)),
        (np.zeros((20, 3)), np.zeros((20, 3))),
        (LINE, CLOUD),
        (LINE, LINE),
        (CLOUD[:2], CLOUD[:2]),
        (CLOUD[:0], CLOUD[:0]),
        (CLOUD * np.nan, CLOUD),
        (CLOUD * 1e300, CLOUD),
        (CLOUD[:5], CLOUD),
        (CLOUD[None], CLOUD[None]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_clouds_that_fix_no_similarity_are_refused_with_a_remedy(source, target):
    with pytest.raises(NumericError) as caught:
        umeyama(source, target)
    assert caught.value.place == "alignment"
    assert caught.value.remedy


@pytest.mark.parametrize("weights", [[1.0], [-1.0] * 20, [np.nan] * 20, [0.0] * 20])
def test_weights_that_weigh_nothing_are_refused(weights):
    with pytest.raises(NumericError):
        umeyama(CLOUD, CLOUD, weights)


def test_inputs_stay_as_they_were():
    source, target = CLOUD.copy(), CLOUD[::-1].copy()
    umeyama(source, target)
    np.testing.assert_array_equal(source, CLOUD)
    np.testing.assert_array_equal(target, CLOUD[::-1])
