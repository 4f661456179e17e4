"""What this machine has and lacks, each with the remedy. It changes nothing, downloads nothing and prints nothing."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.assets import asset
from quantlab.errors import QuantLabError
from quantlab.models.hub import HUB_FILES, models_folder

if TYPE_CHECKING:
    import torch
    from packaging.specifiers import SpecifierSet

OPEN3D_LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libudev.so.1": "libudev1",
}
"""Shared library to the Debian package that brings it."""
BUILT_IN_MODELS = ("mini.safetensors", "pi3-mini.safetensors")
INSTRUCTIONS = {
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX bfloat16",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "AVX512-BF16",
}
"""What torch calls them to what people do."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What was looked at.
        state: "ok"; "absent" when the lab runs without it; "broken" when it does not.
        detail: What was found.
        remedy: What to do, when it is not ok.
    """

    topic: str
    state: str
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything. A check that itself fails is a finding, not an exception."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 -- a doctor who faints helps nobody
            name = check.__name__.strip("_")
            findings.append(
                Finding(name, "broken", f"{type(error).__name__}: {error}", "Report this as a bug.")
            )
    return findings


def healthy(findings: list[Finding]) -> bool:
    """Whether the lab can run: nothing is broken."""
    return all(finding.state != "broken" for finding in findings)


def missing_open3d_packages() -> list[str]:
    """Debian packages that open3d needs and this machine lacks; empty where they do not apply."""
    if sys.platform != "linux":
        return []
    return [package for library, package in OPEN3D_LIBRARIES.items() if not _loads(library)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _python() -> list[Finding]:
    system = f"Python {platform.python_version()} on {platform.platform()}"
    return [Finding("python", "ok", system)]


def _libraries() -> list[Finding]:
    """Each required library: installed, and within the range that pyproject.toml names."""
    from packaging.requirements import Requirement

    lines = importlib.metadata.requires("quantlab") or []
    required = [Requirement(line) for line in lines]
    return [
        _library(requirement.name, requirement.specifier)
        for requirement in required
        if "extra" not in str(requirement.marker or "")
        and (requirement.marker is None or requirement.marker.evaluate())
    ]


def _library(name: str, allowed: SpecifierSet) -> Finding:
    fix = "pip install -e . in the checkout, or pip install --upgrade quantlab."
    optional = name.startswith("open3d")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "absent" if optional else "broken", "not installed", fix)
    if version not in allowed:
        return Finding(name, "broken", f"{version} is outside {allowed}", fix)
    return Finding(name, "ok", version)


def _devices() -> list[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [Finding("cpu", "ok", f"{cores} cores, {torch.get_num_threads()} threads, {_memory()}")]
    if not torch.cuda.is_available():
        why = "this torch is a CPU build" if torch.version.cuda is None else "no CUDA device answers"
        return [
            *found,
            Finding("cuda", "absent", why, "Not needed for mini; VGGT-1B takes a minute a scene without."),
        ]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        text = (
            f"{about.name}, {about.total_memory / 1e9:.0f} GB, compute capability {about.major}.{about.minor}"
        )
        found.append(Finding(f"cuda:{index}", "ok", text))
    return found


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "memory unknown"
    return f"{total / 1e9:.0f} GB memory"


def _dtypes() -> list[Finding]:
    import torch

    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    return [_dtype(device, dtype) for device in devices for dtype in (torch.float32, torch.bfloat16)]


def _dtype(device: str, dtype: torch.dtype) -> Finding:
    """Multiply two small matrices: some machines accept a dtype until they have to compute with it."""
    import torch

    topic = f"{device} {str(dtype).removeprefix('torch.')}"
    try:
        ones = torch.ones(8, 8, device=device, dtype=dtype)
        exact = float((ones @ ones)[0, 0]) == 8.0
    except RuntimeError as error:
        return Finding(topic, "absent", str(error).splitlines()[0], "Use --dtype float32.")
    return (
        Finding(topic, "ok", "computes")
        if exact
        else Finding(topic, "broken", "computes wrongly", "Update torch.")
    )


def _kernels() -> list[Finding]:
    """Which ways of executing a quantized layer there are, on the CPU and on each kind of GPU."""
    import torch

    from quantlab.kernels.choose import candidates
    from quantlab.kernels.table import KERNELS

    devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
    found = _instructions()
    for name in dict.fromkeys((*candidates(), *KERNELS)):
        reasons = {device.type: KERNELS[name].absent(device) for device in devices}
        present = [kind for kind, reason in reasons.items() if not reason]
        if present:
            found.append(Finding(f"kernel {name}", "ok", f"on {' and '.join(present)}"))
        else:
            found.append(Finding(f"kernel {name}", "absent", reasons[devices[-1].type]))
    return found


def _instructions() -> list[Finding]:
    """What the CPU multiplies small numbers with, and the compiler for kernels of our own."""
    import torch

    from quantlab.kernels import native

    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    known = [label for key, label in INSTRUCTIONS.items() if able.get(key)]
    level = torch.backends.cpu.get_cpu_capability()
    cpu = Finding(
        "cpu instructions", "ok", ", ".join([level, *known]) if known else f"{level}, nothing for integers"
    )
    library = native.library()
    if library is None:
        fix = "Not needed; a C compiler (apt-get install gcc) makes the fastest kernels on x86-64 with AVX512-VNNI."
        return [cpu, Finding("native library", "absent", native.why_absent(), fix)]
    return [cpu, Finding("native library", "ok", f"compiled here, uses {library.instructions}")]


def _models() -> list[Finding]:
    found = [_built_in(name) for name in BUILT_IN_MODELS]
    return found + [_from_hub(name, *place) for name, place in HUB_FILES.items()]


def _built_in(name: str) -> Finding:
    try:
        path = asset(name)
    except QuantLabError as error:
        return Finding(name, "broken", error.problem, error.remedy)
    return Finding(name, "ok", f"{path.stat().st_size / 1e6:.1f} MB at {path.parent}")


def _from_hub(name: str, repository: str, file: str) -> Finding:
    from huggingface_hub import constants, try_to_load_from_cache

    by_hand = models_folder() / f"{name}.safetensors"
    if by_hand.is_file():
        return Finding(name, "ok", f"{by_hand.stat().st_size / 1e9:.1f} GB at {by_hand}")
    cache = Path(constants.HF_HUB_CACHE)
    path = try_to_load_from_cache(repository, file)
    if isinstance(path, str):
        return Finding(name, "ok", f"{Path(path).stat().st_size / 1e9:.1f} GB in the hub cache {cache}")
    above = next(folder for folder in (cache, *cache.parents) if folder.exists())
    space = f"{shutil.disk_usage(above).free / 1e9:.0f} GB free there"
    remedy = (
        f"--model {name} downloads {repository} (4 to 5 GB) when first used; or put its {file} at {by_hand}."
    )
    return Finding(name, "absent", f"not in the hub cache {cache}; {space}", remedy)


def _open3d() -> list[Finding]:
    lacking = missing_open3d_packages()
    try:
        importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        remedy = (
            f"sudo apt-get install {' '.join(lacking)}" if lacking else "pip install -e . in the checkout."
        )
        return [Finding("open3d loads", "absent", f"{error}; no ICP, normals and cleaning of clouds", remedy)]
    return [Finding("open3d loads", "ok", "ICP, normals and cleaning of clouds work")]


def _browsers() -> list[Finding]:
    try:
        name = webbrowser.get().__class__.__name__
        found = [Finding("browser", "ok", f"the app opens in it ({name})")]
    except webbrowser.Error:
        remedy = "Start with --no-browser and open the printed address; through ssh forward the port (-L)."
        found = [Finding("browser", "absent", "none to open from here", remedy)]
    path = os.environ.get("QUANTLAB_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        return [*found, Finding("chromium for tests", "absent", "not found", "sudo apt-get install chromium")]
    return [*found, Finding("chromium for tests", "ok", path)]


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _python,
    _libraries,
    _devices,
    _dtypes,
    _kernels,
    _models,
    _open3d,
    _browsers,
)
