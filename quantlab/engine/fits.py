"""Which branches are compensated, by what. Remembers fits, so that only what a change reaches is fitted anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

from quantlab.engine.compensate import BranchFit, fit_branches
from quantlab.engine.plan import BranchPlan, Plan
from quantlab.engine.site import Site
from quantlab.engine.twin import Places
from quantlab.jobs import Job
from quantlab.kernels.compensated import CompensatedOutput, Tap, TappedInput
from quantlab.models.structure import Structure

MOST = 512
Fitted = Mapping[str, tuple[Hashable, BranchFit]]
"""Branch to what its fit was made from, and the fit."""
Keys = Mapping[str, Hashable]
"""Quantized layer to what it was made from, and attention branch to how its keys and values are rounded."""


class Fits:
    """Fits of branches, made when they are first asked for."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Hashable], BranchFit] = OrderedDict()

    def find(
        self, site: Site, chosen: Plan, keys: Keys, wrap: Callable[[Fitted], None], job: Job | None
    ) -> Fitted:
        """Fits of all branches to compensate; only those are made anew that something before them changed.

        Args:
            site: Its network holds the quantized layers of ``keys``.
            chosen: Says which branches.
            keys: What the layers were made from.
            wrap: Puts corrections into the network, and takes all others out.
            job: Checked before every layer.
        """
        wanted = {name: branch for name, branch in chosen.branches.items() if branch.compensated != "off"}
        if not wanted:
            return {}
        site.calibration.require_inputs("compensation")
        order = site.calibration.order(site.reference, site.structure)
        branches = site.structure.branches
        ranked = sorted(wanted, key=lambda name: order[branches[name].layers[0]])
        scenes = site.calibration.which
        made_from = {name: (scenes, _key(name, wanted, keys, order, site.structure)) for name in ranked}
        fitted: dict[str, tuple[Hashable, BranchFit]] = {}
        for index, name in enumerate(ranked):
            known = self._known.get((name, made_from[name]))
            if known is None:
                # Nothing behind is known either: its key contains this one's. The run sees what is in place so far.
                wrap(fitted)
                return {**fitted, **self._make(site, ranked[index:], wanted, made_from, job)}
            fitted[name] = (made_from[name], known)
        return fitted

    def _make(
        self,
        site: Site,
        names: Sequence[str],
        wanted: Mapping[str, BranchPlan],
        made_from: Mapping[str, Hashable],
        job: Job | None,
    ) -> Fitted:
        """Fit branches that are not known, given that all before them are in place."""
        pairs = [(site.structure.branches[name], wanted[name]) for name in names]
        calibration = site.calibration
        fits = fit_branches(site.network, site.reference, pairs, calibration.inputs, calibration.run, job)
        for name in names:
            self._known[name, made_from[name]] = fits[name]
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return {name: (made_from[name], fits[name]) for name in names}


def put_corrections(places: Places, structure: Structure, fitted: Fitted) -> None:
    """Bring the wrappers of compensated branches in line with the fits."""
    for info in structure.branches.values():
        for end in (info.norm, info.gamma or info.name):
            if end:
                places.put(end, None)
    for name, (_, fit) in fitted.items():
        if fit.correction is None:
            continue
        info, tap = structure.branches[name], Tap()
        last = info.gamma or name
        if info.norm:
            places.put(info.norm, TappedInput(places.current(info.norm), tap))
        places.put(last, CompensatedOutput(places.current(last), tap, fit.correction).eval())


def _key(
    name: str, wanted: Mapping[str, BranchPlan], keys: Keys, order: Mapping[str, int], structure: Structure
) -> Hashable:
    """Everything that a branch's fit depends on: the layers up to its last, and the branches compensated before."""
    layers = structure.branches[name].layers
    first, last = order[layers[0]], max(order[layer] for layer in layers)
    begins = {branch: order[info.layers[0]] for branch, info in structure.branches.items()}
    starts = {**begins, **order}
    upstream = tuple((part, key) for part, key in keys.items() if starts[part] <= last)
    before = tuple(branch for other, branch in wanted.items() if begins[other] <= first)
    return upstream, before
