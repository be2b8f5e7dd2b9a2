"""``plantcaduceus``: embeddings of a PlantCaduceus checkpoint, by recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.embedders.batching import Codes, Outputs, in_pieces
from featurestore.embedders.checkpoint import Checkpoint, find_checkpoint
from featurestore.embedders.plantcaduceus.cards import card_of
from featurestore.embedders.plantcaduceus.nano import NANO, nano_folder
from featurestore.embedders.recipe import Recipe, make_recipe
from featurestore.errors import InputError, MissingDependencyError
from featurestore.sequence.iupac import N

CPU_PIECE: Final = 8
"""Windows at a time on a processor; more gain nothing there and only take memory."""

DTYPES: Final = ("fp32", "bf16", "fp16")


class PlantCaduceus:
    """Bidirectional, reverse-complement equivariant DNA language model of plants (Zhai et al. 2025).

    Parameters
    ----------
    checkpoint : str
        Folder, or hub id such as ``kuleshov-group/PlantCaduceus_l20``.
    recipe : str or mapping
        Which hidden states become the vector; see :mod:`featurestore.embedders.recipe`.
    dtype : {"fp32", "bf16", "fp16"}
        Of the matrix products; never chosen by the device.
    batch : int
        Windows at a time on an accelerator. Out of memory halves it and goes on.
    revision : str, optional
        Of a hub repository.
    licence, pretraining_species : optional
        For weights that are not the published ones.
    """

    pads_itself = True

    def __init__(
        self,
        checkpoint: str = "",
        recipe: str | Mapping[str, Any] = "empres",
        dtype: str = "fp32",
        batch: int = 64,
        revision: str | None = None,
        licence: str = "",
        pretraining_species: Sequence[str] = (),
    ) -> None:
        if not checkpoint:
            raise InputError(
                "plantcaduceus needs checkpoint = a folder or a hub id, such as "
                "kuleshov-group/PlantCaduceus_l20 (also _l24, _l28, _l32)"
            )
        if dtype not in DTYPES:
            raise InputError(f"plantcaduceus: dtype = {dtype!r}; choose {', '.join(DTYPES)}")
        if not isinstance(batch, int) or batch < 1:
            raise InputError(f"plantcaduceus: batch = {batch!r}; give a number of windows from 1")
        self.recipe: Recipe = make_recipe(recipe, "plantcaduceus: recipe")
        self.checkpoint = self._find(checkpoint, revision)
        config = self.checkpoint.config()
        width, layers = _sizes(config, self.checkpoint)
        if not -1 <= self.recipe.layer <= layers:
            raise InputError(
                f"plantcaduceus: layer = {self.recipe.layer}; this checkpoint has layers −1 to {layers}"
            )
        card = card_of(self.checkpoint.name)
        channels = 2 * width if self.recipe.strands == "both" else width
        per_token = self.recipe.pool == "tokens"
        self.spec = EmbedderSpec(
            type="plantcaduceus",
            outputs={"embedding": channels},
            input_bp=self.recipe.window,
            span_bp=None if self.recipe.pool == "token" else self.recipe.span,
            positions=self.recipe.span if per_token else 0,
            context=self.recipe.context,
            dtype=dtype,
            checkpoint=self.checkpoint.name,
            digest=self.checkpoint.digest(),
            licence=licence or (card.licence if card else "not stated"),
            rc_rule={
                "average": "mean of both strands, channels of the reverse one flipped",
                "forward": "forward strand of an equivariant model",
                "both": "both strands beside each other, channels of the reverse one flipped",
            }[self.recipe.strands],
            iupac_rule="A, C, G, T; any other code is the unknown token",
            pooling=self.recipe.text,
            pretraining_species=tuple(pretraining_species)
            or (card.pretraining_species if card else ()),
            parameters={
                "checkpoint": self.checkpoint.name, "recipe": self.recipe.as_dict(), "dtype": dtype,
                "batch": batch,
            },
            batch=batch,
        )  # fmt: skip
        self._model: Any = None

    @staticmethod
    def _find(checkpoint: str, revision: str | None) -> Checkpoint:
        if checkpoint == NANO:
            return find_checkpoint(str(nano_folder()), named=NANO)
        return find_checkpoint(checkpoint, revision=revision)

    @classmethod
    def availability(cls) -> str:
        """Which path would run here, in words.

        Raises
        ------
        MissingDependencyError
            Without torch or transformers.
        """
        try:
            import torch
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"plantcaduceus needs {error.name}: pip install 'meristem[models]'"
            ) from error
        from featurestore.embedders.plantcaduceus import paths

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return f"{device}: {paths.active(device, 'fp32')}"

    def load(self, device: str | None) -> None:
        """Load the weights.

        Raises
        ------
        InputError
            Where the files do not hold this model.
        MissingDependencyError
            Without torch or transformers.
        """
        self.availability()
        import torch

        from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM

        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = PlantCaduceusForMaskedLM.from_pretrained(
            str(self.checkpoint.folder), dtype=self.spec.dtype
        )
        self._model = model.to(self._device)

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Vectors of windows.

        Parameters
        ----------
        codes : uint8 array, shape (n, window)

        Returns
        -------
        ``embedding``: float32 array, shape (n, channels), or (n, span, channels) for per-token recipes
        """
        if self._model is None:
            self.load(None)
        piece = self.spec.batch if self._device.type == "cuda" else min(self.spec.batch, CPU_PIECE)
        whole = -(-len(codes) // piece) * piece
        padded = np.full((whole, codes.shape[1]), N, np.uint8)
        padded[: len(codes)] = codes
        return {k: v[: len(codes)] for k, v in in_pieces(self._run, padded, piece).items()}

    def _run(self, codes: Codes) -> Outputs:
        import torch

        from featurestore.embedders.plantcaduceus.tokenizer import ID_OF_CODE

        ids = torch.from_numpy(ID_OF_CODE[codes].astype(np.int64)).to(self._device)
        with torch.no_grad():
            final, hidden = self._model.backbone(ids, keep_all=self.recipe.layer >= 0)
            states = [*hidden, final][self.recipe.layer]
            start, stop = self.recipe.bounds
            forward, reverse = states[:, start:stop].float().chunk(2, dim=-1)
            if self.recipe.strands == "average":
                kept = (forward + reverse.flip(-1)) / 2
            elif self.recipe.strands == "forward":
                kept = forward
            else:
                kept = torch.cat([forward, reverse.flip(-1)], dim=-1)
            if self.recipe.pool != "tokens":
                kept = kept.mean(1)
            return {"embedding": kept.cpu().numpy()}


class PlantCaduceusNano(PlantCaduceus):
    """A small model of PlantCaduceus's architecture that ships with the package (see its card).

    Trained by ``fs pretrain`` for 50 minutes on one core: a baseline that runs anywhere, not a
    replacement of the published models.

    Parameters
    ----------
    recipe, dtype, batch
        As in :class:`PlantCaduceus`.
    """

    def __init__(
        self, recipe: str | Mapping[str, Any] = "empres", dtype: str = "fp32", batch: int = 64
    ) -> None:
        super().__init__(NANO, recipe, dtype, batch)


def _sizes(config: Mapping[str, Any], checkpoint: Checkpoint) -> tuple[int, int]:
    kind = config.get("model_type")
    if kind != "caduceus":
        raise InputError(
            f"{checkpoint.folder / 'config.json'}: model_type {kind!r}; plantcaduceus loads 'caduceus'. "
            'For another model use type = "huggingface"'
        )
    try:
        return int(config["d_model"]), int(config["n_layer"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{checkpoint.folder / 'config.json'}: d_model and n_layer are to be whole numbers"
        ) from None
