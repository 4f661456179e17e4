"""Which scenes are picked: against brute force, and by what every method must keep to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.calibration.clusters import clustered, even, flat, proportional
from quantlab.calibration.picked import PoolFeatures
from quantlab.calibration.selection import METHODS, Wish, chance, correlation, noise_scores, select
from quantlab.errors import RecipeError

ORDER_DECIDES = {"random"}


def pool(size=24, *, seed=0, groups=4, frames=4, outliers=()):
    """Scenes of ``groups`` kinds by their frames' likeness and their tokens; outliers stand out by statistics."""
    random = np.random.default_rng(seed)
    kind = np.arange(size) % groups
    means, variances = random.normal(size=(size, 3)), 1 + 0.1 * random.normal(size=(size, 3))
    means[list(outliers)] += 30.0
    turned = kind[:, None] * 0.4 + 0.02 * random.normal(size=(size, frames - 1))
    angles = np.concatenate([np.zeros((size, 1)), turned], axis=1)
    images = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    specials = 10.0 * kind[:, None, None] + random.normal(size=(size, frames, 5))
    specials[list(outliers)] += 500.0
    return PoolFeatures(
        names=tuple(f"scene {index}" for index in range(size)),
        layers=("a", "b", "c"),
        means=means,
        variances=variances,
        frames=tuple(images),
        specials=tuple(specials),
        special="camera",
        tokens=np.full(size, 69 * frames),
    )


def test_the_noise_score_is_the_papers_sum_taken_one_number_at_a_time():
    features = pool(7, seed=3)
    expected = []
    for scene in range(7):
        total = 0.0
        for table in (features.means, features.variances):
            for layer in range(3):
                column = [float(table[other, layer]) for other in range(7)]
                middle = math.fsum(column) / 7
                deviation = math.sqrt(math.fsum((value - middle) ** 2 for value in column) / 7)
                total += ((table[scene, layer] - middle) / deviation) ** 2
        expected.append(total)
    np.testing.assert_allclose(noise_scores(features.means, features.variances), expected, rtol=1e-10)


def test_the_noise_scores_of_a_pool_sum_to_what_z_scores_must():
    features = pool(20, seed=5)
    assert noise_scores(features.means, features.variances).sum() == pytest.approx(20 * 2 * 3)


def test_the_likeness_of_frames_is_the_cosine_with_the_first():
    features = pool(6, seed=2)
    for scene, frames in enumerate(features.frames):
        for later in range(1, len(frames)):
            a, b = frames[0], frames[later]
            cosine = math.fsum(a * b) / math.sqrt(math.fsum(a * a) * math.fsum(b * b))
            assert correlation(features)[scene, later - 1] == pytest.approx(cosine)


def test_a_single_frame_is_like_itself_and_shorter_scenes_take_their_mean():
    features = pool(3, seed=1)
    short = PoolFeatures(
        features.names,
        features.layers,
        features.means,
        features.variances,
        (features.frames[0][:1], features.frames[1][:2], features.frames[2]),
        features.specials,
        "camera",
        features.tokens,
    )
    likeness = correlation(short)
    assert likeness.shape == (3, 3)
    assert likeness[0] == pytest.approx(1.0)
    assert np.ptp(likeness[1]) == 0
    assert select("coarse_to_fine", short, Wish(2)).picked.size == 2


@pytest.mark.parametrize("seed", range(5))
def test_nfds_drops_planted_outliers_and_spreads_its_picks_over_planted_groups(seed):
    outliers = (3, 8, 13, 18)
    features = pool(24, seed=seed, outliers=outliers)
    picked = select("nfds", features, Wish(8, drop=1 / 6, clusters=4, seed=seed))
    assert set(picked.dropped) == set(outliers)
    assert sorted(index % 4 for index in picked.picked) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all("σ off" in reason for reason in picked.dropped.values())
    assert np.nanargmax(picked.scores) in outliers


@pytest.mark.parametrize("seed", range(3))
def test_frame_aware_is_nfds_that_drops_nothing(seed):
    features = pool(24, seed=seed, outliers=(1,))
    plain = select("frame_aware", features, Wish(6, seed=seed))
    without = select("nfds", features, Wish(6, drop=0.0, seed=seed))
    assert plain.picked.tolist() == without.picked.tolist()
    assert not plain.dropped
    assert not without.dropped


@pytest.mark.parametrize("seed", range(3))
def test_coarse_to_fine_drops_the_smaller_part_and_picks_one_of_each_group(seed):
    features = pool(24, seed=seed, outliers=(0, 5, 10))
    picked = select("coarse_to_fine", features, Wish(4, seed=seed))
    assert set(picked.dropped) == {0, 5, 10}
    assert sorted(index % 4 for index in picked.picked) == [0, 1, 2, 3]


def test_coarse_to_fine_picks_the_scene_nearest_the_middle_of_its_group():
    features = pool(24, seed=4, outliers=(0,))
    picked = select("coarse_to_fine", features, Wish(4))
    tokens = np.stack([special.ravel() for special in features.specials])
    for chosen in picked.picked:
        group = [index for index in range(1, 24) if index % 4 == chosen % 4]
        middle = tokens[group].mean(axis=0)
        assert chosen == min(group, key=lambda index: np.linalg.norm(tokens[index] - middle))


@given(
    name=st.sampled_from(list(METHODS)),
    size=st.integers(1, 14),
    count=st.integers(0, 20),
    drop=st.floats(0, 0.9),
    clusters=st.integers(0, 9),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_every_method_keeps_to_the_pool_and_to_the_count(name, size, count, drop, clusters, seed):
    features = pool(size, seed=seed % 7, groups=3)
    wish = Wish(count, drop, clusters, seed)
    picked = select(name, features, wish)
    again = select(name, features, wish)
    assert picked.picked.tolist() == again.picked.tolist()
    assert len(set(picked.picked.tolist())) == len(picked.picked)
    assert set(picked.picked.tolist()) <= set(range(size)) - set(picked.dropped)
    left = size - len(picked.dropped)
    assert len(picked.picked) == (left if name == "all" else min(count or 8, left))
    assert picked.positions.shape == (size, 2)
    assert all(picked.cluster[index] == -1 for index in picked.dropped)


@pytest.mark.parametrize("name", sorted(set(METHODS) - ORDER_DECIDES))
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_pool_does_not_matter(name, seed):
    features = pool(17, seed=seed, outliers=(2,))
    order = np.random.default_rng(seed).permutation(17)
    straight = select(name, features, Wish(5, seed=seed))
    turned = select(name, features.only(order), Wish(5, seed=seed))
    assert sorted(order[turned.picked]) == straight.picked.tolist()
    assert {order[index] for index in turned.dropped} == set(straight.dropped)
    np.testing.assert_allclose(turned.positions, straight.positions[order], atol=1e-9)


def test_random_draws_what_it_draws_without_features_and_another_seed_another_set():
    drawn = {seed: tuple(chance(24, Wish(8, seed=seed))) for seed in range(6)}
    assert len(set(drawn.values())) > 1
    for seed, picks in drawn.items():
        assert tuple(select("random", pool(24), Wish(8, seed=seed)).picked) == picks


@pytest.mark.parametrize("name", list(METHODS))
def test_a_scene_that_is_not_finite_is_dropped_by_every_method(name):
    features = pool(9)
    features.means[4, 1] = np.nan
    picked = select(name, features, Wish(8))
    assert picked.dropped[4] == "its activations are not finite"
    assert 4 not in picked.picked


@pytest.mark.parametrize("name", list(METHODS))
def test_scenes_that_are_all_alike_are_no_reason_to_fail(name):
    one = pool(1).only(np.zeros(6, dtype=np.int64))
    assert len(select(name, one, Wish(3)).picked) == (6 if name == "all" else 3)


def test_nothing_to_pick_from_is_said():
    with pytest.raises(RecipeError, match="no scene"):
        select("nfds", pool(4).only(np.zeros(0, dtype=np.int64)), Wish())
    with pytest.raises(RecipeError, match="Did you mean 'nfds'"):
        select("ndfs", pool(4), Wish())


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), data=st.data())
def test_shares_use_up_the_count_within_the_sizes_and_are_as_even_as_they_can_be(sizes, data):
    sizes = np.array(sizes)
    count = data.draw(st.integers(0, int(sizes.sum())))
    for share in (even, proportional):
        taken = share(sizes, count)
        assert taken.sum() == count
        assert (taken >= 0).all()
        assert (taken <= sizes).all()
        if count >= len(sizes):
            assert (taken >= 1).all()
    taken = even(sizes, count)
    unfilled = taken[taken < sizes]
    assert not unfilled.size or taken.max() <= unfilled.min() + 1


def test_clusters_find_planted_groups_and_never_outnumber_different_points():
    points = np.repeat(np.eye(3), 4, axis=0)
    labels, centres = clustered(points, 8, 0)
    assert len(centres) == 3
    for index in range(3):
        np.testing.assert_allclose(centres[labels[4 * index]], np.eye(3)[index], atol=1e-12)


def test_the_flat_picture_keeps_the_distances_of_points_that_lie_flat():
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(6, 2)))[0]
    points = random.normal(size=(9, 2)) @ basis.T
    positions, explained = flat(points)
    assert explained == pytest.approx(1.0)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(positions[:, None] - positions[None], axis=-1), apart, atol=1e-9
    )
