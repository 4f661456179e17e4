"""What a plan leaves to the data: scale exponents by block, and which blocks stay in 16 bits. It builds no network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from quantlab.calibration.running import memory_errors
from quantlab.engine.build import build_layer
from quantlab.engine.calibrate import Calibration
from quantlab.engine.plan import BranchPlan, LayerPlan, Plan
from quantlab.engine.sensitivity import BlockProbe
from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.engine.task_loss import TaskLoss
from quantlab.engine.task_scales import ScaleChoice, choose_exponent
from quantlab.jobs import Job, between, part
from quantlab.methods.mixed_precision import fragile_blocks, stays_quantized
from quantlab.models.structure import Structure


@dataclass(frozen=True, slots=True)
class Kept:
    """Why a block stays in 16 bits.

    Attributes:
        sensitivity: Distance of the result from full precision with this block alone quantized.
        rank: Its place among all blocks, the most sensitive is 1.
        reason: In words.
    """

    block: str
    sensitivity: float
    rank: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What the data decided.

    Attributes:
        plan: With the decisions put in.
        sensitivity: Block to the distance of the result with that block alone quantized, where that was measured.
        kept: The blocks that stay in 16 bits, attention's projection apart.
        scales: Block to its scale exponent, where that was searched.
    """

    plan: Plan
    sensitivity: Mapping[str, float]
    kept: Mapping[str, Kept]
    scales: Mapping[str, ScaleChoice]


class Decisions:
    """Measures what plans ask for, and remembers it: undo measures nothing again.

    Args:
        reference: The network in full precision.
        structure: Of the network.
    """

    def __init__(self, reference: nn.Module, structure: Structure) -> None:
        self._reference, self._structure = reference, structure
        self._losses: dict[Hashable, TaskLoss] = {}

    def decide(self, chosen: Plan, seed: int, calibration: Calibration, job: Job | None = None) -> Decided:
        """Fill in what the plan leaves open; a plan that leaves nothing open comes back as it is.

        Raises:
            RecipeError: There is no calibration to decide by.
            JobCancelledError: The job was cancelled; what was measured so far is kept.
        """
        blocks = self._members(chosen)
        searched = {
            name: own
            for name, own in blocks.items()
            if any(own_settings.searched_by_task for own_settings in own.values())
        }
        shares = {name: max(settings.fragile for settings in own.values()) for name, own in blocks.items()}
        judged = [name for name, share in shares.items() if share > 0]
        if not searched and not judged:
            return Decided(chosen, {}, {}, {})
        meter = _Meter(self._losses, self._reference, self._structure, calibration, seed)
        scales: dict[str, ScaleChoice] = {}
        todo = list(dict.fromkeys((*searched, *judged)))
        sensitivity: dict[str, float] = {}
        for index, block in enumerate(todo):
            section = part(job, index, len(todo))
            if block in searched:
                scales[block] = meter.search(block, blocks[block], section)
                blocks[block] = _with_exponent(blocks[block], scales[block].exponent)
            if block in judged:
                sensitivity[block] = meter.loss(block, blocks[block], section).distance
        settings = {name: own for members in blocks.values() for name, own in members.items()}
        kept = _fragile(sensitivity, shares)
        return Decided(_decided(chosen, self._structure, settings, kept), sensitivity, kept, scales)

    def _members(self, chosen: Plan) -> dict[str, dict[str, LayerSettings]]:
        """The quantized layers of each block."""
        blocks: dict[str, dict[str, LayerSettings]] = {}
        for name, layer in chosen.layers.items():
            block = self._structure.layers[name].block
            if layer.quantized and block:
                blocks.setdefault(block, {})[name] = layer.settings
        return blocks


class _Meter:
    """Losses of one calibration; the network is only run for those that are not known."""

    def __init__(
        self,
        known: dict[Hashable, TaskLoss],
        reference: nn.Module,
        structure: Structure,
        calibration: Calibration,
        seed: int,
    ) -> None:
        self._known, self._reference, self._structure = known, reference, structure
        self._calibration, self._seed = calibration, seed
        self._probe: BlockProbe | None = None

    def search(self, block: str, members: Mapping[str, LayerSettings], job: Job | None) -> ScaleChoice:
        """The best exponent of a block."""
        return choose_exponent(
            lambda exponent, section: self.loss(block, _with_exponent(members, exponent), section), job
        )

    def loss(self, block: str, members: Mapping[str, LayerSettings], job: Job | None) -> TaskLoss:
        """The loss with these layers of one block quantized, and nothing else."""
        plain = {name: _alone(settings) for name, settings in members.items()}
        key = (self._calibration.which, self._seed, block, tuple(plain.items()))
        if key not in self._known:
            if self._probe is None:
                first, job = between(job, 0.0, 0.5), between(job, 0.5, 1.0)
                self._probe = BlockProbe(self._reference, self._structure, self._calibration, first)
            layers = {name: self._build(name, settings, job) for name, settings in plain.items()}
            self._known[key] = self._probe.loss(block, layers, job)
        return self._known[key]

    def _build(self, name: str, settings: LayerSettings, job: Job | None) -> nn.Module:
        data = None
        if settings.calibrated:
            data = self._calibration.samples(self._reference, self._structure, name, job)
        layer = self._reference.get_submodule(name)
        with memory_errors(f"quantizing {name}", layer.weight):
            return build_layer(name, layer, settings, seed=self._seed, data=data).eval()


def _with_exponent(members: Mapping[str, LayerSettings], exponent: float) -> dict[str, LayerSettings]:
    return {
        name: replace(settings, smoothing=exponent) if settings.searched_by_task else settings
        for name, settings in members.items()
    }


def _alone(settings: LayerSettings) -> LayerSettings:
    """The settings without what needs a walk, gradients or learning: a block is judged as plainly rounded."""
    loss = "self" if settings.search_loss == "fisher" else settings.search_loss
    return replace(
        settings,
        fragile=0.0,
        rounding="nearest",
        reconstruction="none",
        inputs="full_precision",
        search_loss=loss,
    )


def _fragile(sensitivity: Mapping[str, float], shares: Mapping[str, float]) -> dict[str, Kept]:
    """The blocks to keep; blocks for which a recipe names different shares are ranked apart."""
    kept: dict[str, Kept] = {}
    for share in sorted({shares[block] for block in sensitivity}):
        peers = {block: value for block, value in sensitivity.items() if shares[block] == share}
        for rank, block in enumerate(fragile_blocks(peers, share), start=1):
            reason = (
                f"kept in 16 bits: number {rank} of {len(peers)} blocks in sensitivity ({peers[block]:.2g})"
            )
            kept[block] = Kept(block, peers[block], rank, reason)
    return kept


def _decided(
    chosen: Plan, structure: Structure, settings: Mapping[str, LayerSettings], kept: Mapping[str, Kept]
) -> Plan:
    """The plan with what was decided in the place of what was left open."""
    layers: dict[str, LayerPlan] = {}
    for name, layer in chosen.layers.items():
        info, own = structure.layers[name], settings.get(name, layer.settings)
        if layer.quantized and own.fragile > 0 and info.block in kept and not stays_quantized(info.kind):
            own = replace(own, keep=True)
            layers[name] = replace(
                layer,
                settings=own,
                quantized=False,
                reason=kept[info.block].reason,
                bytes=layer.full_bytes,
            )
        else:
            layers[name] = replace(layer, settings=own)
    branches = {
        name: _still(branch, any(layers[member].quantized for member in structure.branches[name].layers))
        for name, branch in chosen.branches.items()
    }
    corrections = sum(branch.bytes for branch in branches.values() if branch.compensated == "on")
    total = sum(layer.bytes for layer in layers.values()) + corrections
    return replace(chosen, layers=layers, branches=branches, bytes=total)


def _still(branch: BranchPlan, quantized: bool) -> BranchPlan:  # noqa: FBT001 - a fact about the branch
    """A branch in which nothing is rounded any more has nothing to compensate."""
    if quantized or branch.kv_bits < FULL_PRECISION:
        return branch
    return replace(branch, compensated="off", bytes=0)
