"""``config.json`` of a PlantCaduceus or PlantCAD2 checkpoint, in the style of ``transformers``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from featurestore.errors import InputError

MODEL_TYPE = "caduceus"

SSM_DEFAULTS: dict[str, Any] = {
    "d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": "auto", "dt_min": 0.001, "dt_max": 0.1,
    "dt_init": "random", "dt_scale": 1.0, "dt_init_floor": 1e-4, "conv_bias": True, "bias": False,
    "use_fast_path": True,
}  # fmt: skip

SSM2_DEFAULTS: dict[str, Any] = {
    "d_state": 128, "d_conv": 4, "expand": 2, "headdim": 64, "ngroups": 1, "dt_min": 0.001,
    "dt_max": 0.1, "dt_init_floor": 1e-4, "conv_bias": True, "bias": False,
}  # fmt: skip

SSM2_FIXED: dict[str, Any] = {
    "rmsnorm": True, "norm_before_gate": False, "D_has_hdim": False, "d_ssm": None,
    "dt_limit": [0.0, math.inf],
}  # fmt: skip
"""Settings of Mamba-2 that change its function, with the one value that is computed here."""

MIXERS = ("mamba1", "mamba2")

COMPLEMENT_MAP = {0: 0, 1: 1, 2: 2, 3: 6, 4: 5, 5: 4, 6: 3, 7: 7}
"""Token → token of the complementary base: a 3 ↔ t 6, c 4 ↔ g 5; the rest map to themselves."""


class PlantCaduceusConfig(PretrainedConfig):  # type: ignore[misc] # transformers ships no usable types
    """Sizes and switches of a bidirectional, reverse-complement equivariant Mamba model.

    The defaults are the released l20; keys are those of the published ``config.json``.

    Parameters
    ----------
    d_model : int
        Channels per strand; hidden states have ``2 * d_model``.
    n_layer : int
    vocab_size : int
        Before padding to a multiple of ``pad_vocab_size_multiple``.
    ssm_cfg : mapping
        Of the mixer: ``d_state``, ``d_conv``, ``expand``; ``dt_rank`` of Mamba-1, ``headdim`` and
        ``ngroups`` of Mamba-2 …
    norm_epsilon : float
    fused_add_norm : bool
        Changes the function, not only the speed: the fused form of the original exchanges the
        two strand halves in front of each layer, the other one does not. All released weights
        were trained with True.
    complement_map : mapping of token to token
    mixer : {"mamba1", "mamba2"}, optional
        Left out, as in all published files, ``d_intermediate`` tells: only PlantCAD2's have it.

    Raises
    ------
    InputError
        For a switch of the wider Caduceus family that no PlantCaduceus checkpoint uses and this
        model does not compute, rather than computing something else.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        d_model: int = 384,
        n_layer: int = 20,
        vocab_size: int = 8,
        ssm_cfg: Mapping[str, Any] | None = None,
        norm_epsilon: float = 1e-5,
        fused_add_norm: bool = True,
        residual_in_fp32: bool = True,
        complement_map: Mapping[Any, int] | None = None,
        pad_vocab_size_multiple: int = 8,
        initializer_cfg: Mapping[str, Any] | None = None,
        mixer: str | None = None,
        **other: Any,
    ) -> None:
        if (kind := other.get("model_type", MODEL_TYPE)) != MODEL_TYPE:
            raise InputError(f"config.json: model_type {kind!r}; PlantCaduceus is {MODEL_TYPE!r}")
        self.mixer = mixer or ("mamba2" if "d_intermediate" in other else "mamba1")
        for key, value in (("ssm_cfg", ssm_cfg), ("complement_map", complement_map)):
            if value is not None and not isinstance(value, Mapping):
                raise InputError(f"config.json: {key} = {value!r}; it is to be a JSON object")
        _whole(
            d_model=d_model, n_layer=n_layer, vocab_size=vocab_size,
            pad_vocab_size_multiple=max(pad_vocab_size_multiple, 1),
        )  # fmt: skip
        self.d_model = d_model
        self.n_layer = n_layer
        multiple = max(pad_vocab_size_multiple, 1)
        self.vocab_size = -(-vocab_size // multiple) * multiple
        self.pad_vocab_size_multiple = pad_vocab_size_multiple
        defaults = SSM2_DEFAULTS if self.mixer == "mamba2" else SSM_DEFAULTS
        self.ssm_cfg = {**defaults, **dict(ssm_cfg or {})}
        self.norm_epsilon = norm_epsilon
        self.fused_add_norm = fused_add_norm
        self.residual_in_fp32 = residual_in_fp32
        self.initializer_cfg = dict(initializer_cfg or {"initializer_range": 0.02, "rescale_prenorm_residual": True, "n_residuals_per_layer": 1})  # fmt: skip
        self._check_mixer(other)
        given = _token_map(complement_map or COMPLEMENT_MAP)
        self.complement_map = given | {k: k for k in range(len(given), self.vocab_size)}
        self._check(other)
        self.rms_norm = True
        self.rcps = True
        self.bidirectional = True
        self.bidirectional_strategy = "add"
        self.bidirectional_weight_tie = True
        for key in ("rms_norm", "rcps", "bidirectional", "bidirectional_strategy", "bidirectional_weight_tie"):  # fmt: skip
            other.pop(key, None)
        # transformers warns of a padding id outside the vocabulary; here it only marks ignored labels.
        self.ignore_index = other.pop("pad_token_id", None) or -100
        other.pop("auto_map", None)  # names code of a third party, which is never run
        super().__init__(**other)

    def _check(self, other: Mapping[str, Any]) -> None:
        computed = {
            "rcps": True, "bidirectional": True, "bidirectional_strategy": "add",
            "bidirectional_weight_tie": True, "rms_norm": True,
        }  # fmt: skip
        for key, only in computed.items():
            if (value := other.get(key, only)) != only:
                raise InputError(
                    f"config.json: {key} = {value!r}; PlantCaduceus checkpoints have {only!r}, and nothing else is computed here"
                )
        if self.ssm_cfg.get("bias") or not self.ssm_cfg.get("conv_bias", True):
            raise InputError(
                "config.json: ssm_cfg bias = true or conv_bias = false; PlantCaduceus has bias false and conv_bias true"
            )
        if sorted(self.complement_map) != list(range(self.vocab_size)) or any(
            self.complement_map[self.complement_map[k]] != k for k in self.complement_map
        ):
            raise InputError(
                f"config.json: complement_map {self.complement_map} does not pair the {self.vocab_size} tokens"
            )

    def _check_mixer(self, other: Mapping[str, Any]) -> None:
        if self.mixer not in MIXERS:
            raise InputError(f"config.json: mixer = {self.mixer!r}; choose mamba1 or mamba2")
        if other.get("d_intermediate", 0) != 0:
            raise InputError(
                f"config.json: d_intermediate = {other['d_intermediate']!r}; no released checkpoint "
                "has an MLP beside the mixer, and none is computed here"
            )
        sizes = ("d_state", "d_conv", "expand")
        if self.mixer == "mamba1":
            rank = {} if self.ssm_cfg["dt_rank"] == "auto" else {"dt_rank": self.ssm_cfg["dt_rank"]}
            _whole(**{key: self.ssm_cfg[key] for key in sizes}, **rank)
            return
        _whole(**{key: self.ssm_cfg[key] for key in (*sizes, "headdim", "ngroups")})
        for key, only in SSM2_FIXED.items():
            value = self.ssm_cfg.get(key, only)
            if (list(value) if isinstance(value, tuple) else value) != only:
                raise InputError(
                    f"config.json: ssm_cfg {key} = {value!r}; PlantCAD2 has {only!r}, and nothing "
                    "else is computed here"
                )
        if self.d_inner % self.mixer_head_size or self.mixer_heads % self.mixer_groups:
            raise InputError(
                f"config.json: {self.d_inner} inner channels do not make whole heads of "
                f"{self.mixer_head_size} in {self.mixer_groups} groups (ssm_cfg headdim, ngroups)"
            )

    @property
    def mixer_head_size(self) -> int:
        """Channels of a head of Mamba-2."""
        return int(self.ssm_cfg["headdim"])

    @property
    def mixer_heads(self) -> int:
        """Heads of Mamba-2."""
        return self.d_inner // self.mixer_head_size

    @property
    def mixer_groups(self) -> int:
        """Groups of heads that share B and C in Mamba-2."""
        return int(self.ssm_cfg["ngroups"])

    @property
    def d_inner(self) -> int:
        """Channels inside the mixer."""
        return int(self.ssm_cfg["expand"] * self.d_model)

    @property
    def d_state(self) -> int:
        """States per inner channel."""
        return int(self.ssm_cfg["d_state"])

    @property
    def d_conv(self) -> int:
        """Width of the causal convolution, in tokens."""
        return int(self.ssm_cfg["d_conv"])

    @property
    def dt_rank(self) -> int:
        """Rank of the step-size projection."""
        rank = self.ssm_cfg["dt_rank"]
        return math.ceil(self.d_model / 16) if rank == "auto" else int(rank)


def _whole(**values: Any) -> None:
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"config.json: {key} = {value!r}; it is to be a whole number from 1")


def _token_map(given: Mapping[Any, Any]) -> dict[int, int]:
    try:
        return {int(k): int(v) for k, v in given.items()}
    except (TypeError, ValueError):
        raise InputError(
            f"config.json: complement_map {dict(given)!r} does not map tokens to tokens"
        ) from None
