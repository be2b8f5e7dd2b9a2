"""Published space, defaults and variants of EMPRES; plain data, light to import.

Facts: Vahedi Torghabeh et al. 2026 and the code beside it (``behroozvahedi/Regeffects``). No single
setting is published, but the space that 200 Optuna trials per fold searched: ``published`` is its
middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from learners.search import Choice, Range

VARIANTS: Final[Mapping[str, str]] = {
    "EMPRES_0": "onehot",
    "EMPRES_1": "plantcaduceus",
    "EMPRES_2": "plantcaduceus+a2z.accessibility",
    "EMPRES_3": "plantcaduceus+a2z.embedding",
    "EMPRES_4": "a2z.embedding",
}
"""Features of each variant, by type of embedder."""

PUBLISHED: Final[Mapping[str, Any]] = {
    "conv_layers": 4, "filters": 256, "kernel": 3,
    "base_layers": 4, "base_filters": 256, "base_kernel": 5, "dilation": 3, "pool": 4,
    "motifs": 0, "motif_width": 13, "motif_pool": 10, "base_dropout": 0.0, "shift": 0,
    "dense_layers": 4, "post_layers": 3, "units": 64, "dropout": 0.25, "input_dropout": 0.0, "learning_rate": 3e-4,
    "weight_decay": 1e-2, "batch_size": 128, "epochs": 50, "patience": 10, "average": 5,
    "averaged": "predictions", "schedule": "constant", "ema": 0.0,
}  # fmt: skip

SMALL: Final[Mapping[str, Any]] = {
    **PUBLISHED, "conv_layers": 1, "filters": 16, "kernel": 1,
    "motifs": 64, "motif_pool": 10, "base_dropout": 0.1, "shift": 3,
    "base_layers": 1, "base_filters": 64, "base_kernel": 5, "dilation": 1, "pool": 25,
    "dense_layers": 1, "post_layers": 1, "dropout": 0.5, "input_dropout": 0.5,
    "learning_rate": 2e-3, "weight_decay": 0.3, "batch_size": 32, "epochs": 0, "schedule": "cosine",
}  # fmt: skip
"""Found on validation families of 1,335 windows of A. thaliana (bins) and of one fold of the simulated
sample (bases): without half of the inputs hidden in training a thousand genes are learned by heart
within five epochs."""

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {"small": SMALL, "published": PUBLISHED}

_COMMON: Final[Mapping[str, Choice | Range]] = {
    "dense_layers": Choice((3, 4, 5)),
    "post_layers": Choice((2, 3, 4)),
    "units": Choice((16, 32, 64, 128)),
    "dropout": Range(0.0, 0.5),
    "learning_rate": Range(1e-5, 1e-2, log=True),
    "batch_size": Choice((64, 128, 256)),
}

SPACE_BINS: Final[Mapping[str, Choice | Range]] = {
    **_COMMON,
    "conv_layers": Choice((3, 4, 5)),
    "filters": Choice((128, 192, 256, 320, 384)),
    "kernel": Choice((1, 2, 3, 4)),
}

SPACE_BASES: Final[Mapping[str, Choice | Range]] = {
    **_COMMON,
    "base_layers": Choice((3, 4, 5)),
    "base_filters": Choice((64, 128, 192, 256, 320, 384)),
    "base_kernel": Range(1, 10, integer=True),
    "dilation": Range(1, 5, integer=True),
    "pool": Choice((3, 4, 5)),
}
