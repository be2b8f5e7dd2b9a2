"""``config.json`` of a PlantCaduceus checkpoint, in the style of ``transformers``."""

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
        Of the Mamba mixer: ``d_state``, ``d_conv``, ``expand``, ``dt_rank`` …
    norm_epsilon : float
    fused_add_norm : bool
        Changes the function, not only the speed: the fused form of the original exchanges the
        two strand halves in front of each layer, the other one does not. All released weights
        were trained with True.
    complement_map : mapping of token to token

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
        **other: Any,
    ) -> None:
        self.d_model = d_model
        self.n_layer = n_layer
        multiple = max(pad_vocab_size_multiple, 1)
        self.vocab_size = -(-vocab_size // multiple) * multiple
        self.pad_vocab_size_multiple = pad_vocab_size_multiple
        self.ssm_cfg = {**SSM_DEFAULTS, **dict(ssm_cfg or {})}
        self.norm_epsilon = norm_epsilon
        self.fused_add_norm = fused_add_norm
        self.residual_in_fp32 = residual_in_fp32
        self.initializer_cfg = dict(initializer_cfg or {"initializer_range": 0.02, "rescale_prenorm_residual": True, "n_residuals_per_layer": 1})  # fmt: skip
        given = {int(k): int(v) for k, v in dict(complement_map or COMPLEMENT_MAP).items()}
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
