"""Which order of the strand halves a checkpoint was trained with, judged by its own predictions.

The original's fused form exchanges the halves in front of each layer, the unfused one does not, and
nothing in a file but ``fused_add_norm`` tells them apart: both load, and both are equivariant. Run
the wrong way a trained model predicts masked bases far worse, so real sequence settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
from featurestore.embedders.plantcaduceus.paths import Prepared
from featurestore.embedders.plantcaduceus.tokenizer import BASE_IDS, MASK_ID


@torch.no_grad()
def masked_probabilities(
    model: PlantCaduceusForMaskedLM, input_ids: Tensor, positions: Sequence[int]
) -> Tensor:
    """Probabilities of A, C, G, T at positions, each masked alone.

    Parameters
    ----------
    input_ids : int64 tensor, shape (l,)
    positions : 0-based

    Returns
    -------
    shape (positions, 4), float32
    """
    rows = []
    for at in positions:
        masked = input_ids.clone()
        masked[at] = MASK_ID
        rows.append(model(masked[None]).logits[0, at, list(BASE_IDS)].float().softmax(-1))
    return torch.stack(rows)


def compare_strand_orders(
    model: PlantCaduceusForMaskedLM, input_ids: Tensor, positions: Sequence[int]
) -> dict[str, float]:
    """Mean loss at masked bases, in nats, with the halves exchanged and not.

    Parameters
    ----------
    model : PlantCaduceusForMaskedLM
        Left as it was.
    input_ids : int64 tensor, shape (l,)
        Real sequence of a species like those of the pre-training.
    positions : 0-based
        Of A, C, G or T; some hundred tell a trained model's order beyond doubt.

    Returns
    -------
    dict
        ``exchanged`` and ``in place``; the order of the training has the smaller loss, and a
        uniform guess has ln 4 = 1.386.
    """
    found = {}
    was: Any = model.config.fused_add_norm
    truth = input_ids[list(positions)] - BASE_IDS[0]
    try:
        for name, fused in (("exchanged", True), ("in place", False)):
            model.config.fused_add_norm = fused
            model.backbone.prepared = Prepared()
            guessed = masked_probabilities(model, input_ids, positions)
            found[name] = float(F.nll_loss(guessed.log(), truth))
    finally:
        model.config.fused_add_norm = was
        model.backbone.prepared = Prepared()
    return found
