"""Writes profiles to .npz files and reads them back, without pickle. It trusts no file it reads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.calibration.profile import LayerProfile, Profile, TokenStats
from quantlab.errors import StorageError
from quantlab.numerics.records import BINS, Histogram
from quantlab.storage import atomic_write

FORMAT = 2
"""2 knows the fingerprint of the weights; 1, which did not, is read too."""
MAX_BYTES = 1 << 30
"""Unpacked size beyond which a file is refused before it is unpacked."""
ARRAYS = ("channel_max", "token_max", "token_kinds", "weight_channel_max")
NAMES = ("name", "kind", "stream", "block", "index")
NUMBERS = ("count", "mean", "std", "kurtosis", "max", "p50", "p90", "p99", "p999", "p9999", "max_p999")
DTYPES = {"token_kinds": np.uint8}


def save_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile; a write that fails leaves an older file whole.

    Raises:
        StorageError: The file cannot be written.
    """
    atomic_write(path, profile_bytes(profile))


def profile_bytes(profile: Profile) -> bytes:
    """The contents of the file of a profile."""
    arrays: dict[str, NDArray[Any]] = {}
    layers = [_pack(layer, index, arrays) for index, layer in enumerate(profile.layers.values())]
    header = {"format": FORMAT, "scenes": profile.scenes, "seconds": profile.seconds}
    header |= {"fingerprint": profile.fingerprint, "layers": layers}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load_profile(path: str | Path) -> Profile:
    """Read a profile.

    Raises:
        StorageError: There is no such file, or it is no profile, damaged, or unreasonably large.
    """
    try:
        _refuse_enormous(path)
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            _check_format(header["format"], path)
            layers = [_unpack(entry, index, arrays) for index, entry in enumerate(header["layers"])]
        return Profile(
            {layer.name: layer for layer in layers},
            tuple(map(str, header["scenes"])),
            float(header["seconds"]),
            str(header.get("fingerprint", "")),
        )
    except FileNotFoundError:
        raise StorageError("there is no such profile", place=str(path), remedy="Check the path.") from None
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001
        # zipfile, zlib, lzma, tokenize and numpy each raise their own errors for damaged or hostile bytes.
        raise _unusable(path, f"the file is no profile: {error}") from None


def _refuse_enormous(path: str | Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise _unusable(path, "the file would unpack to more than a gigabyte")


def _check_format(number: Any, path: str | Path) -> None:
    if type(number) is int and number > FORMAT:
        raise StorageError(
            f"profile format {number} was made by a newer QuantLab; this one reads {FORMAT}",
            place=str(path),
            remedy="Update QuantLab.",
        )
    if type(number) is not int or number < 1:
        raise _unusable(path, "the format of the profile is no number")


def _pack(layer: LayerProfile, index: int, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    for name in ARRAYS:
        arrays[f"{index}.{name}"] = getattr(layer, name)
    entry = {name: getattr(layer, name) for name in NAMES}
    entry["tokens"] = {
        kind: _pack_stats(stats, f"{index}.tokens.{kind}", arrays) for kind, stats in layer.tokens.items()
    }
    return entry | {"weight": _pack_stats(layer.weight, f"{index}.weight", arrays)}


def _pack_stats(stats: TokenStats, key: str, arrays: dict[str, NDArray[Any]]) -> list[float]:
    arrays[key] = stats.histogram.counts
    return [getattr(stats, name) for name in NUMBERS]


def _unpack(entry: Mapping[str, Any], index: int, arrays: Mapping[str, NDArray[Any]]) -> LayerProfile:
    fields: dict[str, Any] = {name: str(entry[name]) for name in NAMES[:-1]}
    for name in ARRAYS:
        fields[name] = np.asarray(arrays[f"{index}.{name}"], dtype=DTYPES.get(name, np.float32)).ravel()
    tokens = {
        str(kind): _unpack_stats(numbers, arrays[f"{index}.tokens.{kind}"])
        for kind, numbers in entry["tokens"].items()
    }
    weight = _unpack_stats(entry["weight"], arrays[f"{index}.weight"])
    return LayerProfile(**fields, index=int(entry["index"]), tokens=tokens, weight=weight)


def _unpack_stats(numbers: list[float], counts: NDArray[Any]) -> TokenStats:
    if counts.shape != (BINS,):
        raise ValueError(f"a histogram has {counts.size} bins instead of {BINS}")
    values = dict(zip(NUMBERS, map(float, numbers), strict=True))
    count = int(values.pop("count"))
    return TokenStats(count=count, histogram=Histogram(counts.astype(np.int64)), **values)


def _unusable(path: str | Path, problem: str) -> StorageError:
    return StorageError(problem, place=str(path), remedy="Profile the model again.")
