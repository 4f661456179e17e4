"""Which scenes of a pool to calibrate on: one function a method, on features. It runs no network and opens no scene.

No method knows a network: features come from `quantlab.calibration.features`. The same features, settings and seed
give the same picks; and except for "random" the order of the pool does not matter, because every method works on the
scenes in an order of its own (that of their features).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.calibration.clusters import Floats, Integers, clustered, even, flat, proportional
from quantlab.calibration.picked import Picked, PoolFeatures
from quantlab.errors import RecipeError
from quantlab.registry import Registry

DEFAULT_COUNT = 8
DEFAULT_CLUSTERS = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """What a method is asked for: at most ``count`` scenes (0: its default), and its settings."""

    count: int = 0
    drop: float = 0.2
    clusters: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """What a method decided: indices into the pool as in `Picked`; ``feature`` [N, F] is what it tells scenes by."""

    picked: Integers
    cluster: Integers
    feature: Floats
    space: str
    scores: Floats | None = None
    score: str = ""
    dropped: tuple[tuple[int, str], ...] = ()


Pick = Callable[[PoolFeatures, Wish], Choice]


@dataclass(frozen=True, slots=True)
class Method:
    """One way to choose: what it does, whence it is, which settings it reads."""

    pick: Pick
    label: str
    help: str
    source: str = ""
    reads: tuple[str, ...] = ("scenes",)
    looks: bool = True
    """Whether it looks at features, which cost a pass over the pool."""


METHODS: Registry[Method] = Registry("selection method", RecipeError)


def select(name: str, features: PoolFeatures, wish: Wish) -> Picked:
    """Pick scenes of a pool: as many as wished for, or all that were not dropped where those are fewer.

    A scene whose activations are not finite is dropped whatever the method, unless all are like that.

    Args:
        name: One of ``METHODS``.
        features: Of the pool, N scenes.
        wish: How many, and how.

    Raises:
        RecipeError: Unknown method, or no scene that could be picked.
    """
    method, size = METHODS[name], len(features)
    sound = np.flatnonzero(finite(features))
    if not len(sound):
        raise RecipeError(
            "there is no scene to pick from", place="calibration", remedy="Pass calibration=[...]."
        )
    choice = method.pick(features.only(sound), wish)
    cluster, scores, positions = np.full(size, -1), np.full(size, np.nan), np.zeros((size, 2))
    cluster[sound] = choice.cluster
    scores[sound] = np.nan if choice.scores is None else choice.scores
    kept = np.setdiff1d(np.arange(len(sound)), [index for index, _ in choice.dropped])
    positions[sound], explained = flat(choice.feature, kept)
    broken = dict.fromkeys(np.setdiff1d(np.arange(size), sound).tolist(), "its activations are not finite")
    return Picked(
        method=name,
        names=features.names,
        picked=np.sort(sound[choice.picked]),
        dropped=broken | {int(sound[index]): reason for index, reason in choice.dropped},
        cluster=cluster,
        scores=scores,
        score=choice.score,
        positions=positions,
        space=choice.space,
        explained=explained,
        frames=np.array([len(frames) for frames in features.frames], dtype=np.int64),
        tokens=features.tokens,
    )


def finite(features: PoolFeatures) -> NDArray[np.bool_]:
    """Whether all that is known of each scene is finite, bool [N]."""
    known = np.isfinite(features.means).all(axis=1) & np.isfinite(features.variances).all(axis=1)
    tokens = [
        bool(np.isfinite(frames).all() and np.isfinite(specials).all())
        for frames, specials in zip(features.frames, features.specials, strict=True)
    ]
    return np.asarray(known & np.array(tokens, dtype=bool), dtype=bool)


# ---- the methods ----------------------------------------------------------------------------------------------------


def _all(features: PoolFeatures, _wish: Wish) -> Choice:
    everything = np.arange(len(features))
    return Choice(everything, _no_clusters(features), correlation(features), CORRELATION)


def _random(features: PoolFeatures, wish: Wish) -> Choice:
    return Choice(chance(len(features), wish), _no_clusters(features), correlation(features), CORRELATION)


def _frame_aware(features: PoolFeatures, wish: Wish) -> Choice:
    everything = np.arange(len(features))
    return _spread_out(features, wish, everything, None, ())


def _nfds(features: PoolFeatures, wish: Wish) -> Choice:
    """Noise-filtered diverse sampling.

    Source:
        QuantVGGT (arXiv:2509.21302), section 3.3: filter by `noise_scores`, cluster by `correlation`, draw evenly
        from the clusters. The published code computes the filter and discards it; this one uses it.
    """
    scores = noise_scores(features.means, features.variances)
    worst = _worst(scores, int(wish.drop * len(features) + 1e-9))
    kept = np.setdiff1d(np.arange(len(features)), worst)
    limit = scores[kept].max()
    dropped = tuple((int(index), _why_noisy(features, int(index), scores[index], limit)) for index in worst)
    return _spread_out(features, wish, kept, scores, dropped)


def _coarse_to_fine(features: PoolFeatures, wish: Wish) -> Choice:
    """TAPTQ's construction of the calibration set.

    Source:
        TAPTQ (arXiv:2602.01741), section 3.2. Stage 1 keeps the larger of two clusters. Stage 2 splits it into
        ``clusters`` parts (0: one for each pick) and takes from each, in proportion to its size, the scenes nearest
        its centre. The paper's feature is the camera tokens of all frames; where a network has none, its other special
        tokens serve (our reading), and where scenes differ in their number of frames, their mean over the frames.
    """
    feature = _tokens_of_scenes(features)
    halves, _ = clustered(feature, 2, wish.seed)
    sizes = np.bincount(halves, minlength=2)
    kept = np.flatnonzero(halves == _larger(feature, halves, sizes))
    count = _count(wish, len(kept))
    labels, centres = clustered(feature[kept], wish.clusters or count, wish.seed)
    distance = np.linalg.norm(feature[kept] - centres[labels], axis=1)
    shares = proportional(np.bincount(labels, minlength=len(centres)), count)
    # Of a pair both lie equally far from its middle, but for rounding: then the values decide.
    rank = np.argsort(np.lexsort(feature[kept].T[::-1]))
    order = np.lexsort((rank, np.round(distance / (distance.max() or 1.0), 9), labels))
    picked = [kept[order[labels[order] == label][:share]] for label, share in enumerate(shares)]
    left = len(feature) - len(kept)
    reason = f"in the group that the coarse stage leaves out ({left} of {len(feature)} scenes)"
    cluster, scores = _no_clusters(features), np.full(len(features), np.nan)
    cluster[kept], scores[kept] = labels, distance
    gone = np.setdiff1d(np.arange(len(features)), kept)
    dropped = tuple((int(index), reason) for index in gone)
    space = f"last-layer {features.special} tokens"
    return Choice(np.concatenate(picked), cluster, feature, space, scores, "distance to its centre", dropped)


CORRELATION = "likeness of each frame to the first"
_SPREAD = ("scenes", "clusters")
METHODS.register("all")(
    Method(_all, "all", "The scenes the lab was given to calibrate on, all of them.", reads=(), looks=False)
)
METHODS.register("random")(
    Method(_random, "random", "Some scenes of the pool, drawn at random with the recipe's seed.", looks=False)
)
METHODS.register("nfds")(
    Method(
        _nfds,
        "NFDS",
        "Drop the scenes whose deep activations lie farthest from the rest, group the others by how alike their frames"
        " are, and draw evenly from the groups.",
        "QuantVGGT (arXiv:2509.21302)",
        ("scenes", "drop", "clusters", "deep_blocks"),
    )
)
METHODS.register("coarse_to_fine")(
    Method(
        _coarse_to_fine,
        "coarse to fine",
        "Split the pool in two by the camera tokens and keep the larger part, group that, and take the scenes nearest"
        " the middle of each group.",
        "TAPTQ (arXiv:2602.01741)",
        _SPREAD,
    )
)
METHODS.register("frame_aware")(
    Method(
        _frame_aware,
        "frame-aware",
        "Group the scenes by how alike their frames are and draw evenly from the groups: NFDS without its filter.",
        "QuantVGGT (arXiv:2509.21302), ablation",
        _SPREAD,
    )
)


# ---- their parts ----------------------------------------------------------------------------------------------------


def chance(size: int, wish: Wish) -> Integers:
    """What "random" picks of ``size`` scenes: it needs no features."""
    drawn = np.random.default_rng(wish.seed).permutation(size)[: _count(wish, size)]
    return np.sort(drawn).astype(np.int64)


def noise_scores(means: Floats, variances: Floats) -> Floats:
    """How far each scene's deep activations lie from the pool's, float64 [N].

    The sum over layers of the squared z-scores of mean and variance, both [N, L].

    Source:
        QuantVGGT (arXiv:2509.21302), section 3.3; z-scores with the population's deviation.
    """
    return np.asarray((z_scores(means) ** 2).sum(axis=1) + (z_scores(variances) ** 2).sum(axis=1))


def z_scores(values: Floats) -> Floats:
    """Columns [N, F] less their mean, over their standard deviation; a column without spread says nothing: 0."""
    centred, spread = values - values.mean(axis=0), values.std(axis=0)
    real = spread > 1e-12 * np.abs(values).max(axis=0)  # below it is rounding
    return np.asarray(np.where(real, centred / np.where(real, spread, 1.0), 0.0))


def correlation(features: PoolFeatures) -> Floats:
    """Frame-aware features [N, S - 1]: cosine of each later frame's pooled tokens with the first frame's.

    Scenes with fewer frames than the longest are filled up with their own mean, a single frame with 1 (our reading).

    Source:
        QuantVGGT (arXiv:2509.21302), section 3.3.
    """
    longest = max(2, *(len(frames) for frames in features.frames)) - 1
    return np.stack([_likeness(frames, longest) for frames in features.frames])


def _spread_out(
    features: PoolFeatures,
    wish: Wish,
    kept: Integers,
    scores: Floats | None,
    dropped: tuple[tuple[int, str], ...],
) -> Choice:
    """Cluster the kept scenes by frame-aware features and draw evenly from the clusters."""
    feature = correlation(features)
    count = _count(wish, len(kept))
    labels, _ = clustered(feature[kept], wish.clusters or DEFAULT_CLUSTERS, wish.seed)
    shares = even(np.bincount(labels), count)
    random = np.random.default_rng(wish.seed)
    order = np.lexsort(feature[kept].T[::-1])
    picked = []
    for label, share in enumerate(shares):
        members = order[labels[order] == label]
        picked.append(kept[random.permutation(members)[:share]])
    cluster = _no_clusters(features)
    cluster[kept] = labels
    score = "distance of its activations from the pool's" if scores is not None else ""
    return Choice(np.concatenate(picked), cluster, feature, CORRELATION, scores, score, dropped)


def _count(wish: Wish, available: int) -> int:
    return min(wish.count or DEFAULT_COUNT, available)


def _worst(scores: Floats, count: int) -> Integers:
    """The ``count`` highest scores, but never all."""
    return np.argsort(-scores, kind="stable")[: min(count, len(scores) - 1)]


def _why_noisy(features: PoolFeatures, index: int, score: float, limit: float) -> str:
    z = np.abs(np.concatenate([z_scores(features.means)[index], z_scores(features.variances)[index]]))
    place = int(np.argmax(z))
    count = len(features.layers)
    what = f"{'mean' if place < count else 'variance'} of {features.layers[place % count]}"
    return f"{what} is {z[place]:.1f} σ off; noise {score:.3g}, kept up to {limit:.3g}"


def _likeness(frames: Floats, longest: int) -> Floats:
    lengths = np.linalg.norm(frames, axis=1)
    products = frames[1:] @ frames[0]
    scale = lengths[1:] * lengths[0]
    cosines = np.where(scale > 0, products / np.where(scale > 0, scale, 1.0), 0.0)
    rest = cosines.mean() if len(cosines) else 1.0
    return np.concatenate([cosines, np.full(longest - len(cosines), rest)])


def _tokens_of_scenes(features: PoolFeatures) -> Floats:
    if len({tokens.shape for tokens in features.specials}) == 1:
        return np.stack([tokens.ravel() for tokens in features.specials])
    return np.stack([tokens.mean(axis=0) for tokens in features.specials])


def _larger(feature: Floats, halves: Integers, sizes: Integers) -> int:
    """The label of the larger part; of two equal ones that which lies closer together."""
    if sizes[0] != sizes[1]:
        return int(np.argmax(sizes))
    spread = [
        ((feature[halves == label] - feature[halves == label].mean(axis=0)) ** 2).sum() for label in (0, 1)
    ]
    return int(np.argmin(spread))


def _no_clusters(features: PoolFeatures) -> Integers:
    return np.full(len(features), -1, dtype=np.int64)
