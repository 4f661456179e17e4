"""Where a report comes from: model and digest, versions, machine, scenes, seeds. It measures and judges nothing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from quantlab import __version__
from quantlab.engine.machine import processor
from quantlab.figures.readable import counted

if TYPE_CHECKING:
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab

LIBRARIES = ("torch", "numpy", "scipy", "open3d")
NAMED_SCENES = 12


@dataclass(frozen=True, slots=True)
class Provenance:
    """Groups of labelled facts, in the order a person reads them.

    Attributes:
        groups: Title to label to fact; a fact that could not be found says so.
        created: When, in UTC, as ISO 8601 without fractions.
    """

    groups: Mapping[str, Mapping[str, str]]
    created: str


def provenance(
    lab: Lab,
    recipe: Recipe,
    profiled: Sequence[str],
    *,
    scene: str,
    command: str = "",
) -> Provenance:
    """Collect the facts; the weights are read once for their digest.

    Args:
        lab: The lab that is reported.
        recipe: In force when its numbers were taken.
        profiled: Names of the scenes behind the profile, which may come from another machine.
        scene: Name of the scene that is shown in 3D.
        command: What was typed; "" where it was not a command line.
    """
    created = datetime.now(UTC).replace(microsecond=0).isoformat()
    made = {"made": created.replace("T", " ").replace("+00:00", " UTC")}
    if command:
        made["command"] = command
    made["QuantLab"] = __version__
    made["Python"] = f"{platform.python_implementation()} {platform.python_version()}"
    groups = {
        "Model": _model(lab),
        "Scenes and seeds": _scenes(lab, recipe, profiled, scene),
        "Software": made | {name: _version(name) for name in LIBRARIES},
        "Machine": _machine(str(_device(lab))),
    }
    return Provenance(groups, created)


def _model(lab: Lab) -> dict[str, str]:
    model = lab.model
    count = sum(int(parameter.numel()) for parameter in _network(lab).parameters())
    planted = bool(getattr(model, "planted", False))
    of_file = getattr(model, "path", None) is not None
    source = "the weight file" + (", before outliers were planted" if planted else "")
    facts = {
        "name": lab.name,
        "sha256": lab.fingerprint.partition("+")[0],
        "digest of": source if of_file else "the names and values of the tensors",
        "parameters": counted(count),
        "arithmetic": str(getattr(model, "dtype", "as the module was given")),
        "device": str(_device(lab)),
    }
    if planted:
        facts["outliers"] = "planted artificially, to show what they do"
    return facts


def _network(lab: Lab) -> Any:
    """The torch module, in whatever it came."""
    return getattr(lab.model, "network", lab.model)


def _device(lab: Lab) -> Any:
    first = next(_network(lab).parameters(), None)
    return "cpu" if first is None else first.device


def _scenes(lab: Lab, recipe: Recipe, profiled: Sequence[str], scene: str) -> dict[str, str]:
    chosen = recipe.calibration
    picks = ", ".join(f"{name} {value}" for name, value in chosen.to_dict().items())
    return {
        "shown in 3D": scene,
        "evaluated on": _names(lab.evaluation),
        "profiled on": _listed(profiled),
        "calibration": "all scenes" if chosen.method == "all" else picks,
        "seed of the recipe": str(recipe.seed),
    }


def _names(scenes: Any) -> str:
    names = [str(getattr(scene, "name", f"input {index + 1}")) for index, scene in enumerate(scenes)]
    return _listed(names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_SCENES} more" if len(names) > NAMED_SCENES else ""
    return f"{len(names)}: {', '.join(names[:NAMED_SCENES])}{more}"


def _version(name: str) -> str:
    for distribution in (name, f"{name}-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "not installed"


def _machine(device: str) -> dict[str, str]:
    """No name of host or user: a report travels."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": f"{processor()}, {cores} {'core' if cores == 1 else 'cores'}",
        "memory": _memory(),
        "GPU": _gpu(device),
    }


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"
    except (AttributeError, OSError, ValueError):
        return "unknown"


def _gpu(device: str) -> str:
    if not device.startswith("cuda"):
        return "not used"
    torch = sys.modules["torch"]  # the lab has loaded it; what draws may not
    return str(torch.cuda.get_device_name(device))
