"""Sizes of a Pi3 or Pi3X network as plain data, and the check of a configuration from a file. No modules are built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from quantlab.errors import CheckpointError
from quantlab.models.config import (
    DEPTH_LIMIT,
    INFORMATIONAL,
    heads_fit,
    mapping_of,
    refuse_unknown,
    section_of,
)


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of the image encoder; the defaults are those of the released networks."""

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of the trunk: blocks alternate between one view (even) and all views (odd)."""

    embed_dim: int = 1024
    depth: int = 36
    num_heads: int = 16
    num_register_tokens: int = 5


@dataclass(frozen=True, slots=True)
class HeadsConfig:
    """Sizes of the three head decoders, and the widths that the heads read (points and confidence; camera)."""

    embed_dim: int = 1024
    depth: int = 5
    num_heads: int = 16
    out_dim: int = 1024
    camera_out_dim: int = 512


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """Pi3X: widths of the convolutional heads after each of three upsamplings, and before the last convolution."""

    widths: tuple[int, ...] = (256, 128, 64)
    last: int = 32


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """Pi3X: sizes of the branch that reads one metric scale off all tokens."""

    embed_dim: int = 512
    depth: int = 5
    num_heads: int = 8


@dataclass(frozen=True, slots=True)
class Pi3Config:
    """Everything that fixes the names and shapes of a Pi3; Pi3X has ``dense`` and ``metric`` as well."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    dense: DenseConfig | None = None
    metric: MetricConfig | None = None

    @property
    def img_size(self) -> int:
        """Side of the pictures the position embedding was made for."""
        return self.encoder.img_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.encoder.patch_size

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], *, extended: bool = False) -> Pi3Config:
        """Check a configuration in the form stored in checkpoint metadata.

        ``patch_size`` stands in "encoder" (or at the top level) and defaults to 14; a size that is left out is the
        released one.

        Args:
            config: Sections of sizes.
            extended: The sizes of a Pi3X, which has the sections "dense" and "metric" besides.

        Raises:
            CheckpointError: An unknown key, a value of the wrong type, or sizes that do not fit together.
        """
        more = {"dense": DenseConfig, "metric": MetricConfig}
        sections = [f.name for f in fields(cls) if extended or f.name not in more]
        refuse_unknown(config, (*sections, *INFORMATIONAL, "patch_size"), "configuration")
        encoder = dict(mapping_of(config.get("encoder", {}), "encoder"))
        if "patch_size" in config:
            encoder.setdefault("patch_size", config["patch_size"])
        built = cls(
            encoder=section_of(EncoderConfig, encoder, "encoder"),
            decoder=section_of(DecoderConfig, config.get("decoder", {}), "decoder"),
            heads=section_of(HeadsConfig, config.get("heads", {}), "heads"),
            **{name: section_of(more[name], config.get(name, {}), name) for name in more if extended},
        )
        _check_sizes(built)
        return built

    def to_dict(self) -> dict[str, Any]:
        """The form ``from_dict`` reads, for JSON; absent sections are left out."""
        return {name: section for name, section in asdict(self).items() if section is not None}


def _check_sizes(config: Pi3Config) -> None:
    encoder, decoder, heads, metric = config.encoder, config.decoder, config.heads, config.metric
    patch = max(encoder.patch_size, 1)
    problems = {
        "patch_size must divide img_size": encoder.patch_size < 1 or encoder.img_size % patch != 0,
        "img_size must be at least patch_size": encoder.img_size < encoder.patch_size,
        "the encoder and the decoder must have the same embed_dim": encoder.embed_dim != decoder.embed_dim,
        "the encoder's num_heads must divide embed_dim": encoder.num_heads < 1
        or encoder.embed_dim % max(encoder.num_heads, 1) != 0,
        "num_heads must divide embed_dim into heads of a multiple of 4": not all(
            heads_fit(section.embed_dim, section.num_heads)
            for section in (decoder, heads, metric)
            if section is not None
        ),
        "the decoder needs an even number of blocks between 2 and 256": decoder.depth % 2 != 0
        or not 2 <= decoder.depth <= DEPTH_LIMIT,
        "the encoder or a head has more than 256 blocks": max(encoder.depth, heads.depth) > DEPTH_LIMIT,
        "out_dim and camera_out_dim must be at least 1": min(heads.out_dim, heads.camera_out_dim) < 1,
        "the widths of the dense heads must be multiples of 16": config.dense is not None
        and any(width < 1 or width % 16 for width in config.dense.widths),
    }
    for problem, holds in problems.items():
        if holds:
            raise CheckpointError(problem, place="configuration", remedy="Correct the sizes.")
