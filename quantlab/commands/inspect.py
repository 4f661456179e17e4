"""`quantlab inspect`: which layers have heavy tails, which branches suffer under a recipe. It computes no statistic."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.commands.console import say, stage, table
from quantlab.commands.evaluate import measured_on, timed
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label
from quantlab.storage import check_writable, write_json

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile, Profile, TokenStats
    from quantlab.engine.diagnosis import Diagnosis
    from quantlab.engine.measurement import Measurement

WORST = 12
QUANTILES = ("p50", "p90", "p99", "p999", "p9999")


@dataclass(frozen=True, slots=True)
class ProfileFiles:
    """Where a profile comes from that was measured elsewhere, and where this one is kept; None for neither."""

    taken: Path | None = None
    kept: Path | None = None


def run(
    model: ModelChoice,
    scenes: SceneChoice,
    recipe: RecipeChoice,
    *,
    profiles: ProfileFiles = ProfileFiles(),
    measure: bool = False,
    json_file: Path | None,
) -> None:
    """Profile and diagnose the model on the scenes, print the worst layers and branches, write all of them.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done.
    """
    check_writable(json_file)
    check_writable(profiles.kept)
    chosen = recipe.load(otherwise="rtn")
    loaded, shown = scenes.load(), model.load()
    from quantlab.lab import Lab

    lab = Lab(shown, calibration=loaded, evaluation=loaded[:1], recipe=chosen, seed=scenes.seed)
    if profiles.taken is not None:
        lab.load_profile(profiles.taken)
    with stage("profile") as job:
        profile = lab.profile(job=job)
    if profiles.kept is not None:
        say(f"written: {lab.save_profile(profiles.kept)}")
    with stage("diagnose") as job:
        diagnosis = lab.diagnose(job=job)
    measured = measured_on(lab) if measure else None
    result = {
        "model": shown.name,
        "planted": shown.planted,
        "scenes": list(profile.scenes),
        "recipe": json.loads(chosen.to_json()),
        "layers": layer_records(profile, diagnosis, lab.plan().quantized, measured),
        "measurement": None if measured is None else measured.to_dict(),
        "branches": branch_records(diagnosis, lab.structure.branches),
    }
    if json_file is not None:
        say(f"written: {write_json(json_file, result)}")
    seen = profile.scenes[0] if len(profile.scenes) == 1 else f"{len(profile.scenes)} scenes"
    _print(f"{called(shown)} on {seen}", result, label(chosen))
    if measured is not None:
        say(timed(measured))


def layer_records(
    profile: Profile, diagnosis: Diagnosis, quantized: Collection[str], measured: Measurement | None = None
) -> list[dict[str, Any]]:
    """One record a layer, in execution order: its place, the statistics of all its input tokens, and of each kind.

    A layer that the recipe leaves in full precision has no TRE: null. One that was timed has its seconds and kernel.
    """
    records = [
        _layer(layer, diagnosis.layers.get(layer.name) if layer.name in quantized else None)
        for layer in profile.layers.values()
    ]
    if measured is None:
        return records
    return [
        {
            **record,
            "seconds": measured.layers.get(record["name"]),
            "kernel": measured.chosen.get(record["name"]),
        }
        for record in records
    ]


def branch_records(diagnosis: Diagnosis, branches: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record a branch: its name, block, kind, and TRE when it alone is quantized."""
    return [
        {"name": name, "block": branches[name].block, "kind": branches[name].kind, "tre": tre}
        for name, tre in diagnosis.branches.items()
    ]


def _layer(layer: LayerProfile, tre: float | None) -> dict[str, Any]:
    place: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "stream": layer.stream}
    place |= {"block": layer.block, "index": layer.index}
    kinds = {kind: _statistics(stats) for kind, stats in layer.tokens.items() if kind != "all"}
    return {**place, **_statistics(layer.tokens["all"]), "tre": tre, "tokens": kinds}


def _statistics(stats: TokenStats) -> dict[str, Any]:
    return {
        "count": stats.count,
        "mean": stats.mean,
        "std": stats.std,
        "kurtosis": stats.kurtosis,
        "max": stats.max,
        "max_p999": stats.max_p999,
        "quantiles": {name: getattr(stats, name) for name in QUANTILES},
    }


def _print(title: str, result: Mapping[str, Any], recipe: str) -> None:
    # What the recipe rounds comes first: a heavy tail that nothing rounds costs nothing.
    layers = sorted(result["layers"], key=lambda layer: (layer["tre"] is None, -layer["kurtosis"]))[:WORST]
    is_timed = result["measurement"] is not None
    columns = ("layer", "kurtosis", "max", "max/p99.9", "TRE", "largest in", *(("ms",) if is_timed else ()))
    rows = [
        (
            layer["name"],
            layer["kurtosis"],
            layer["max"],
            layer["max_p999"],
            layer["tre"] or None,
            _largest_kind(layer),
            *((None if layer["seconds"] is None else 1e3 * layer["seconds"],) if is_timed else ()),
        )
        for layer in layers
    ]
    note = (
        f"{len(layers)} of {len(result['layers'])} layers: those that {recipe} rounds, heaviest tails first; "
        "a normal one has kurtosis 3. --json has them all.\n"
    )
    table(f"Layer inputs of {title}", columns, rows, note=note)
    branches = sorted(result["branches"], key=lambda branch: -(branch["tre"] or 0.0))[:WORST]
    table(
        f"Branches under {recipe}, each quantized alone",
        ("branch", "TRE"),
        [(branch["name"], branch["tre"]) for branch in branches],
        note=f"{len(branches)} of {len(result['branches'])} branches, largest tail-relative error first.",
    )


def _largest_kind(layer: Mapping[str, Any]) -> str:
    kinds = layer["tokens"]
    return max(kinds, key=lambda kind: kinds[kind]["max"]) if kinds else "–"
