"""Memory of a released-size network, each way in a fresh process: on disk, loaded, and in a forward of real pictures.

python -m quantlab.bench.speed.memory write|read PART FOLDER SHAPES DEPTH FRAMES THREADS DEVICE
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.bench.speed.clock import Timing
from quantlab.bench.speed.contenders import Contender, offered
from quantlab.bench.speed.machine import made
from quantlab.bench.speed.plan import CPU, SHAPES, Group
from quantlab.bench.speed.records import Line, Record
from quantlab.errors import DeviceError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantlab.bench.speed.child import Order

STATUS = Path("/proc/self/status")
PAGES = 1 << 24
FLOAT = "float32"


def measure_memory(order: Order) -> Record:
    """Write a checkpoint each way, and load and run it in a process of its own."""
    lines = []
    for contender in order.contenders:
        facts, reason = {}, ""
        try:
            facts = _measured(contender.name, order.group)
        except DeviceError as error:
            reason = str(error)
        timing = Timing((facts["forward_cpu_seconds"],), (facts["forward_seconds"],)) if facts else Timing()
        lines.append(Line(contender.name, timing if facts else Timing(reason=reason), facts))
    return Record(
        order.group, order.digest, tuple(lines), made(order.command, order.group.threads, order.group.device)
    )


def _measured(part: str, group: Group) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        _another("write", part, folder, group)
        disk = 0
        for path in Path(
            folder, "model"
        ).iterdir():  # read once: what is timed is loading from the page cache
            disk += path.stat().st_size
            with path.open("rb") as file:
                while file.read(PAGES):
                    pass
        facts: dict[str, Any] = json.loads(_another("read", part, folder, group))
    return {"disk_bytes": disk, **facts}


def _another(verb: str, part: str, folder: str, group: Group) -> str:
    """Run a step in a process of its own.

    Raises:
        DeviceError: It failed; says how.
    """
    sizes = map(str, (group.shapes, group.depth, group.size, group.threads, group.device))
    command = [sys.executable, "-m", "quantlab.bench.speed.memory", verb, part, folder, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this very program
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise DeviceError(f"the process failed: {last[:200]}", place=f"{verb} {part}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def part_of(name: str, device: str = CPU) -> Contender:
    """The contender that a process is told the name of."""
    return next(contender for contender in offered(device) if contender.name == name)


def write(part: Contender, folder: Path, config: Mapping[str, Any]) -> None:
    """Write a checkpoint with random weights; no more than a layer of it is ever in float32 and in memory."""
    if part.name == FLOAT:
        _write_float(folder, config)
        return
    from quantlab.packed.write import Source, write_packed

    network, recipe = _packed_network(config, part.settings)
    about = {
        "model": {"name": "random", "kind": "vggt", "sha256": "", "planted": False},
        "recipe": recipe,
        "seed": 0,
        "scenes": None,
    }
    write_packed(network, folder, Source("vggt", config, about, bits=4))


def _write_float(folder: Path, config: Mapping[str, Any]) -> None:
    """One file of safetensors, tensor by tensor."""
    import struct

    from quantlab.bench.speed.subject import values
    from quantlab.models.networks import build_model

    folder.mkdir()
    state = build_model("vggt", config, device="meta").state_dict()
    header: dict[str, object] = {"__metadata__": {"config": json.dumps(config)}}
    offset = 0
    for name, tensor in state.items():
        end = offset + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for index, (name, tensor) in enumerate(state.items()):
            file.write(values(name, tensor, index).numpy().tobytes())


def _packed_network(
    config: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """A network of packed layers, convolutions too, and its recipe; made layer by layer."""
    from quantlab.bench.speed.ours import seen
    from quantlab.bench.speed.subject import materialise
    from quantlab.engine.build import build_layer
    from quantlab.engine.plan import plan
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.settings import Settings
    from quantlab.models.networks import build_model
    from quantlab.models.places import Places
    from quantlab.models.structure import describe

    network = build_model("vggt", config, device="meta").eval()
    structure, recipe = describe(network), Recipe(scope="all", defaults=Settings(settings))
    places, decided = Places(network), plan(structure, recipe)
    for index, name in enumerate(decided.quantized):
        layer = places.original(name)
        materialise(layer, index)
        made_layer = build_layer(name, layer, decided.layers[name].settings, seed=0, data=seen(layer))
        made_layer.keep_packed()
        places.put(name, made_layer)
        layer.register_parameter("weight", None)  # the stand-in has its codes, and shares its bias
    materialise(network, len(decided.quantized))
    return network, recipe.to_dict()


def read(path: Path, part: Contender, shapes: str, frames: int, device: str = CPU) -> dict[str, Any]:
    """Load a checkpoint and run it, and tell what that took of time and memory, in seconds and bytes."""
    import torch

    import quantlab.kernels.choose
    import quantlab.packed.load  # noqa: F401 -- what has only imported is the zero
    from quantlab.bench.speed.gpu import clock_of
    from quantlab.packed.load import load_model

    clock = clock_of(device)
    before, begun = _resident(), clock.wall()
    if part.name == FLOAT:
        model = load_model(next(path.iterdir()), device=device)
    else:
        model = load_model(path, device=device, kernel=part.kernel, compute=part.compute)
    seconds, loaded = clock.wall() - begun, _resident()
    picture = torch.rand(1, frames, 3, *SHAPES[shapes].picture).to(device)
    wall, cpu = clock.wall(), clock.cpu()
    model.run(picture)
    wall, cpu = clock.wall() - wall, clock.cpu() - cpu
    found = {
        "weights_bytes": sum(tensor.nbytes for tensor in _tensors(model.network)),
        "load_seconds": round(seconds, 3),
        "anonymous_bytes": loaded["RssAnon"] - before["RssAnon"],
        "mapped_bytes": loaded["RssFile"] - before["RssFile"],
        "peak_bytes": _resident()["VmHWM"],
        "imported_bytes": before["VmRSS"],
        "forward_seconds": wall,
        "forward_cpu_seconds": cpu,
        "kernels": dict(model.execution.kernels) if hasattr(model, "execution") else {},
    }
    return found if device == CPU else found | _on_gpu(picture.nbytes)


def _on_gpu(pictures: int) -> dict[str, int]:
    """What lies on the GPU when a forward is over, the pictures apart, and the most that lay there."""
    import torch

    weights, peak = torch.cuda.memory_allocated() - pictures, torch.cuda.max_memory_allocated()
    return {"weights_bytes": weights, "peak_bytes": peak}


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, what is shared once."""
    seen_at = set()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.data_ptr() not in seen_at:
            seen_at.add(tensor.data_ptr())
            yield tensor


def _resident() -> dict[str, int]:
    """Bytes of this process by kind: VmRSS, VmHWM (the most so far), RssAnon, RssFile.

    Raises:
        DeviceError: The system does not tell.
    """
    if not STATUS.exists():
        raise DeviceError("this system does not tell the memory of a process")
    lines = [line.split() for line in STATUS.read_text(encoding="ascii").splitlines()]
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[0].startswith(("Vm", "Rss"))}


def main(arguments: list[str]) -> None:
    """One step, as `_another` asks for it."""
    verb, name, folder, shapes, depth, frames, threads, device = arguments
    import torch

    from quantlab.bench.speed.subject import released

    torch.set_num_threads(int(threads))
    path, part = Path(folder) / "model", part_of(name, device)
    if verb == "write":
        config = SHAPES[shapes].config
        write(part, path, released(int(depth), track=True) if config is None else config)
    else:
        print(json.dumps(read(path, part, shapes, int(frames), device)))  # noqa: T201 -- the answer


if __name__ == "__main__":
    main(sys.argv[1:])
