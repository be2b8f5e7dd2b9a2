"""PlantCaduceus as a masked model.

The model is reverse-complement equivariant and its head adds the logits of both strands: the
reverse complement of a window gives, at the mirrored position, the same four numbers for the
complementary bases. Zhai et al. 2025 (PNAS 122:e2421738122) score a variant at 0-based position
255 of 512.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.plantcaduceus.embedder import DTYPES, PlantCaduceus
from featurestore.errors import InputError

CPU_BATCH: Final = 4
"""Windows of one call on a processor: more gain nothing, and the last call is padded to as many."""


class MaskedPlantCaduceus:
    """Probabilities of the base in the middle of a window.

    Parameters
    ----------
    embedder : PlantCaduceus
        Names the checkpoint, and the window by its recipe.
    dtype : {"fp32", "bf16", "fp16"}
        Of the matrix products.
    """

    def __init__(self, embedder: PlantCaduceus, dtype: str = "fp32") -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: choose {', '.join(DTYPES)}")
        self.checkpoint = embedder.checkpoint
        self.window = embedder.recipe.window
        self.mask_index = (self.window - 1) // 2
        self.dtype = dtype
        self.batch = embedder.spec.batch
        self.facts = {
            "type": embedder.spec.type,
            "checkpoint": embedder.spec.checkpoint,
            "digest": embedder.spec.digest,
            "licence": embedder.spec.licence,
            "pretraining_species": list(embedder.spec.pretraining_species),
        }
        self._model: Any = None

    def load(self, device: str | None) -> None:
        """Load the weights.

        Raises
        ------
        InputError
            Where the files do not hold this model.
        MissingDependencyError
            Without torch or transformers.
        """
        PlantCaduceus.availability()
        import torch

        from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM

        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self._device.type == "cpu":
            self.batch = min(self.batch, CPU_BATCH)
        folder = str(self.checkpoint.folder)
        self._model = PlantCaduceusForMaskedLM.from_pretrained(folder, dtype=self.dtype).to(
            self._device
        )

    def log_probabilities(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Log-probabilities of A, C, G, T at ``mask_index``, shape (n, window) → (n, 4)."""
        import torch

        from featurestore.embedders.plantcaduceus.tokenizer import BASE_IDS, ID_OF_CODE, MASK_ID

        if self._model is None:
            self.load(None)
        ids = torch.from_numpy(ID_OF_CODE[codes].astype(np.int64))
        ids[:, self.mask_index] = MASK_ID
        with torch.no_grad():
            final, _ = self._model.backbone(ids.to(self._device))
            logits = self._model.head(final[:, self.mask_index])[:, list(BASE_IDS)]
            found = torch.log_softmax(logits.double(), dim=-1)
        values: NDArray[np.float64] = found.cpu().numpy()
        return values
