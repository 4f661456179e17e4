"""Compiling the C files of this folder, once per machine, with the compiler that is there. It calls none of them."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    "-O3",
    "-std=gnu11",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wl,-Bsymbolic",
    "-fPIC",
    "-shared",
    "-pthread",
)
"""Nothing here lets the compiler assume that no number is a NaN or an infinity."""
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
SECONDS = 60
"""Longer than any compiler takes; so long one that hangs holds up the first network of a process."""
_FOLDER = Path(__file__).parent


class BuildError(Exception):
    """Why there is no library, in one sentence; never shown as an error, only as a reason."""


def built(extra: tuple[str, ...] = (), *, folder: Path | None = None) -> Path:
    """The compiled library, from the cache where it is there and whole, else compiled now (a few seconds).

    The name of the file holds the hash of all that it was made from, so that ``-march=native`` meets only the CPU it
    was made for, and the hash of its own contents, so that a damaged file is not loaded. Two processes that compile at
    once do no harm: each renames a finished file into place.

    Args:
        extra: Further flags.
        folder: Where compiled libraries are kept; the user's cache folder by default. Nobody else may write there.

    Raises:
        BuildError: No compiler, no place to write, or it does not compile.
    """
    compiler = _compiler()
    command = [*compiler, *FLAGS, *extra]
    sources = sorted(_FOLDER.glob("*.[ch]"))
    made_from = _hash(*(part.encode() for part in command), *map(_contents, sources), *_machine(compiler[0]))
    try:
        cache = _private(_cache() if folder is None else folder)
        for found in sorted(cache.glob(f"{made_from}-*.so")):
            if found.stem == f"{made_from}-{_hash(found.read_bytes())}":
                return found
            found.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            part = Path(work) / "part.so"
            _run([*command, "-o", str(part), *(str(file) for file in sources if file.suffix == ".c")])
            target = cache / f"{made_from}-{_hash(part.read_bytes())}.so"
            part.replace(target)
    except OSError as error:
        raise BuildError(f"the compiled library cannot be kept ({error.strerror or error})") from error
    return target


def _compiler() -> list[str]:
    """What CC says, or the first of the usual names on PATH."""
    chosen = os.environ.get("CC", "")
    try:
        named = shlex.split(chosen)
    except ValueError as error:
        raise BuildError(f"CC={chosen} cannot be read ({error})") from error
    for words in (named,) if chosen else (["cc"], ["gcc"], ["clang"]):
        path = shutil.which(words[0]) if words else None
        if path is not None:
            return [path, *words[1:]]
    raise BuildError(f"no C compiler was found (looked for {chosen or 'cc, gcc and clang'})")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the user's own compiler, on our own files
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {SECONDS} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr.strip()[:200]]
        raise BuildError(f"{command[0]} failed: {lines[0].strip()}")


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("quantlab") / "native"


def _private(folder: Path) -> Path:
    """The folder, made if it is missing; what is loaded from it must not be written by anybody else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise BuildError(f"others may write to {folder}")
    return folder


def _machine(compiler: str) -> list[bytes]:
    """What ``-march=native`` and the version of the compiler depend on."""
    state = Path(compiler).resolve().stat()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = {line for line in lines if line.startswith(("flags", "model name", "cpu family", "model\t"))}
    return [f"{compiler} {state.st_size} {state.st_mtime_ns}".encode(), platform.platform().encode()] + [
        line.encode() for line in sorted(cpu)
    ]


def _contents(path: Path) -> bytes:
    return path.name.encode() + path.read_bytes()


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:24]
