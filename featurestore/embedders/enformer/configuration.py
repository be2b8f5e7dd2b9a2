"""Sizes of an Enformer, its presets, and its ``config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal

from featurestore.errors import InputError, unknown_name

GammaNorm = Literal["feature", "position"]

FEATURE_CLASSES: Final = 6
"""Three kinds of relative-position feature, each plain and times the sign of the distance."""


@dataclass(frozen=True)
class EnformerConfig:
    """Sizes of an Enformer (Avsec et al., Nat. Methods 18:1196, 2021); the defaults are its own.

    Keys of ``config.json`` are those of the public port, so that its checkpoints load as they
    are; those below ``dim_divisible_by`` are ours.

    Parameters
    ----------
    dim : int
        Channels of the transformer; the stem has half of them, the trunk's output twice.
    depth, heads : int
        Transformer blocks, attention heads of each.
    output_heads : mapping of head to number of tracks
        One head a species in the paper (``human`` 5,313, ``mouse`` 1,643); any names.
    target_length : int
        Bins that are predicted, in the middle of a window of ``input_bp``.
    attn_dim_key : int
        Channels of a head's queries and keys; its values have ``dim // heads``.
    dropout_rate, attn_dropout, pos_dropout : float
    num_downsamples : int
        Halvings, of which the stem makes the first: a bin is 2 to that power bases.
    dim_divisible_by : int
        Widths of the tower are rounded to multiples of it.
    input_bp : int
        Window in bases. Others are computed too, with the same share of bins cropped.
    gamma_norm : {"feature", "position"}
        What the gamma densities among the relative positions are divided by: their largest value
        over positions, each feature for itself, as the published weights were trained; or over
        features, each position for itself, as the public port trains by default.
    attention_reach : int
        Bins, either way, that a bin attends to; 0: all. A model that is cut short so has the same
        weights and sees only what is near.
    track_names : mapping of head to list of str
    head_species : mapping of head to list of species that it stands for

    Raises
    ------
    InputError
        For sizes that do not make a network.
    """

    dim: int = 1536
    depth: int = 11
    heads: int = 8
    output_heads: Mapping[str, int] = field(default_factory=lambda: {"human": 5313, "mouse": 1643})
    target_length: int = 896
    attn_dim_key: int = 64
    dropout_rate: float = 0.4
    attn_dropout: float = 0.05
    pos_dropout: float = 0.01
    num_downsamples: int = 7
    dim_divisible_by: int = 128
    input_bp: int = 196_608
    gamma_norm: GammaNorm = "feature"
    attention_reach: int = 0
    track_names: Mapping[str, list[str]] = field(default_factory=dict)
    head_species: Mapping[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "target_length", "attn_dim_key", "num_downsamples",
                     "dim_divisible_by", "input_bp"):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"Enformer: {name} = {value!r}; give a whole number from 1")
        if not isinstance(self.attention_reach, int) or self.attention_reach < 0:
            raise InputError(
                f"Enformer: attention_reach = {self.attention_reach!r}; give bins from 0"
            )
        for name in ("dropout_rate", "attn_dropout", "pos_dropout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"Enformer: {name} = {value!r}; give a share from 0 to below 1")
        if self.num_downsamples < 2:
            raise InputError(
                "Enformer: num_downsamples = 1; the stem and one block make 2 at least"
            )
        if self.dim % self.heads or self.position_features % FEATURE_CLASSES:
            raise InputError(
                f"Enformer: dim {self.dim} over {self.heads} heads; each head's share is to be a "
                f"multiple of {FEATURE_CLASSES}, which the relative positions need"
            )
        if min(self.tower) < 1 or self.tower[-1] != self.dim or self.dim % 2:
            raise InputError(
                f"Enformer: dim {self.dim} with dim_divisible_by {self.dim_divisible_by} makes widths "
                f"{list(self.tower)}; they are to end at dim: take a dim_divisible_by that divides "
                "dim and half of it"
            )
        if self.input_bp % self.bin_bp or self.target_length > self.input_bins:
            raise InputError(
                f"Enformer: input_bp {self.input_bp:,} is to be a multiple of the bin of "
                f"{self.bin_bp} bp and hold target_length = {self.target_length} of them"
            )
        if (self.input_bins - self.target_length) % 2:
            raise InputError(
                f"Enformer: of {self.input_bins} bins {self.target_length} cannot be the middle; "
                "both are to be even, or both odd"
            )
        if self.gamma_norm not in ("feature", "position"):
            raise unknown_name("gamma_norm", str(self.gamma_norm), ("feature", "position"))
        self._check_heads()

    def _check_heads(self) -> None:
        if not isinstance(self.output_heads, Mapping):
            raise InputError(
                f"Enformer: output_heads = {self.output_heads!r}; it maps heads to tracks"
            )
        for head, tracks in self.output_heads.items():
            if not str(head).isidentifier() or not isinstance(tracks, int) or tracks < 1:
                raise InputError(
                    f"Enformer: head {head!r} with {tracks!r} tracks; heads are named like variables "
                    "and have one track at least"
                )
            names = self.track_names.get(head)
            if names is not None and len(names) != tracks:
                raise InputError(
                    f"Enformer: {len(names)} track_names for head {head!r}, which has {tracks} tracks"
                )
        for key in (*self.track_names, *self.head_species):
            if key not in self.output_heads:
                raise unknown_name("head of an Enformer", key, list(self.output_heads))

    @property
    def bin_bp(self) -> int:
        """Bases of a bin."""
        return int(2**self.num_downsamples)

    @property
    def input_bins(self) -> int:
        """Bins of a window before the crop."""
        return self.input_bp // self.bin_bp

    @property
    def conv_reach(self) -> int:
        """Bases to either side of a bin that the convolutions see."""
        return 7 + 2 * (self.bin_bp - 2)

    def reach_for(self, context: int) -> int:
        """``attention_reach`` with which a bin sees about ``context`` bases, half to either side.

        At least 1, so that 0 keeps its meaning.
        """
        left = (context / 2 - self.conv_reach) / self.bin_bp / self.depth
        return max(1, round(left))

    @property
    def position_features(self) -> int:
        """Relative-position features of an attention layer."""
        return self.dim // self.heads

    @property
    def tower(self) -> tuple[int, ...]:
        """Widths of the stem and of each block of the convolution tower."""
        half, blocks = self.dim // 2, self.num_downsamples - 1
        ratio = math.exp(math.log(self.dim / half) / max(blocks - 1, 1))
        by = self.dim_divisible_by
        grown = [round(half * ratio**i / by) * by for i in range(blocks)]
        if blocks == 1:
            grown = [self.dim]
        return (half, *grown)

    def cropped(self, bins: int) -> int:
        """Bins that are kept of so many: ``target_length``, or the same share of other windows."""
        if bins == self.input_bins:
            return self.target_length
        margin = round((self.input_bins - self.target_length) / 2 * bins / self.input_bins)
        return bins - 2 * margin

    def names(self, head: str) -> list[str]:
        """Names of a head's tracks; numbers where it has none."""
        return list(self.track_names.get(head) or map(str, range(self.output_heads[head])))

    def with_heads(
        self,
        tracks: Mapping[str, list[str]],
        species: Mapping[str, list[str]] | None = None,
    ) -> EnformerConfig:
        """The same network with other heads, by the names of their tracks."""
        return replace(
            self,
            output_heads={head: len(names) for head, names in tracks.items()},
            track_names={head: list(names) for head, names in tracks.items()},
            head_species=dict(species or {}),
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> EnformerConfig:
        """One of :data:`PRESETS`, with some sizes changed."""
        if name not in PRESETS:
            raise unknown_name("preset of Enformer", name, list(PRESETS))
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], where: str = "Enformer") -> EnformerConfig:
        """From a parsed ``config.json``; keys of other tools in it say nothing to this model.

        Raises
        ------
        InputError
            Naming ``where`` it stood.
        """
        if (kind := body.get("model_type", "enformer")) != "enformer":
            raise InputError(f"{where}: model_type {kind!r}; Enformer is 'enformer'")
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{key: value for key, value in body.items() if key in known})
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None = None) -> EnformerConfig:
        """Of a checkpoint, by folder or hub id; its weights are not read."""
        from featurestore.embedders.checkpoint import find_checkpoint

        found = find_checkpoint(name, revision=revision)
        return cls.from_dict(found.config(), str(found.folder / "config.json"))

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types, for ``config.json``."""
        return {"model_type": "enformer", **asdict(self)}


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "enformer": {},
    "enformer-small": {
        "dim": 384, "depth": 4, "heads": 4, "dim_divisible_by": 32, "attn_dim_key": 64,
    },
    "enformer-plant": {
        "dim": 192, "depth": 4, "heads": 4, "dim_divisible_by": 16, "attn_dim_key": 32,
        "input_bp": 49_152, "target_length": 320, "dropout_rate": 0.2,
    },
    "tiny": {
        "dim": 48, "depth": 1, "heads": 2, "dim_divisible_by": 8, "attn_dim_key": 16,
        "input_bp": 4_096, "target_length": 16, "dropout_rate": 0.1,
    },
}  # fmt: skip
"""``enformer``: as published. ``enformer-small``: a quarter of its width on windows as long.
``enformer-plant``: 49 kb and an eighth of the width, for the short distances of small genomes.
``tiny``: for tests."""
