"""``a2z``: embedding and probability of each bin from a 600-bp window around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.a2z.architecture import EMBEDDING, STATE, WINDOW
from featurestore.embedders.a2z.published import (
    DOWNLOAD,
    PUBLISHED,
    Published,
    check_model,
    find_weights,
    identify,
)
from featurestore.embedders.base import EmbedderSpec
from featurestore.embedders.batching import Codes, Outputs, in_pieces
from featurestore.embedders.checkpoint import file_digest
from featurestore.errors import InputError, MissingDependencyError, unknown_name
from featurestore.sequence.iupac import ONE_HOT, N

Stored = Literal["dense", "state", "probability"]

CHANNELS: Final[Mapping[str, int | None]] = {
    "dense": EMBEDDING,
    "state": STATE,
    "probability": None,
}
"""Channels of ``embedding`` by what is stored; None: no such array."""

VECTORS: Final[Mapping[str, str]] = {
    "dense": "embedding: outputs of the layer dense, one vector ",
    "state": "embedding: last LSTM states (dense = state @ state_map.T + state_offset), one vector ",
    "probability": "one number ",
}
"""What is stored, in words."""

SET_OF_CODE: Final = ((ONE_HOT > 0) @ (1 << np.arange(4))).astype(np.uint8)
"""IUPAC code → set of bases, four bits."""

DTYPES: Final = ("fp32", "bf16")


class A2ZEmbedder:
    """a2z, chromatin accessibility or DNA methylation of plant DNA (Wrightsman et al. 2022).

    Parameters
    ----------
    checkpoint : str
        ``.h5`` as published, ``.safetensors`` as converted, or a folder that holds one of them.
    model : {"", "accessibility", "methylation"}
        Name of the array of probabilities. Published files are known by their content; any other
        weights are taken for what this says, accessibility if nothing.
    stored : {"dense", "state", "probability"}
        ``dense``: the 925 numbers of the published embedding. ``state``: the 640 numbers of the LSTM
        that it is an affine image of, with that map in ``state_map`` and ``state_offset``.
        ``probability``: no embedding. The probability itself is always stored.
    dtype : {"fp32", "bf16"}
        Of the LSTM; never chosen by the device.
    batch : int
        Windows at a time. Out of memory halves it and goes on.
    licence, pretraining_species : optional
        For weights that are not the published ones.
    """

    pads_itself = True

    def __init__(
        self,
        checkpoint: str = "",
        model: str = "",
        stored: str = "dense",
        dtype: str = "fp32",
        batch: int = 128,
        licence: str = "",
        pretraining_species: Sequence[str] = (),
    ) -> None:
        if not checkpoint:
            raise InputError(f"a2z needs checkpoint = the path of its weights; {DOWNLOAD}")
        if stored not in CHANNELS:
            raise unknown_name("form to store", stored, get_args(Stored))
        if dtype not in DTYPES:
            raise InputError(f"a2z: dtype = {dtype!r}; choose {' or '.join(DTYPES)}")
        if not isinstance(batch, int) or batch < 1:
            raise InputError(f"a2z: batch = {batch!r}; give a number of windows from 1")
        self.path = find_weights(checkpoint, model)
        self.known: Published | None = identify(self.path)
        self.model = check_model(model, self.known, self.path)
        channels = CHANNELS[stored]
        embedding = {} if channels is None else {"embedding": channels}
        known = self.known
        self.spec = EmbedderSpec(
            type="a2z",
            outputs={**embedding, self.model: 0},
            input_bp=WINDOW,
            dtype=dtype,
            checkpoint=known.name if known else f"{self.path.name}, not a published file of a2z",
            digest=file_digest(self.path),
            licence=licence or ("MIT" if known else "not stated"),
            rc_rule="none: the strand of the transcript, as published",
            iupac_rule="fractional one-hot: R = 1/2 A + 1/2 G … N = 1/4 each, as published",
            pooling=f"{VECTORS[stored]}a window centred on the bin; {self.model}: probability that "
            f"{PUBLISHED[self.model].target}",
            pretraining_species=tuple(pretraining_species) or (known.species if known else ()),
            parameters={
                "checkpoint": self.path.name, "model": self.model, "stored": stored, "dtype": dtype,
                "batch": batch,
            },
            batch=batch,
            constants=self._map() if stored == "state" else {},
        )  # fmt: skip
        self._net: Any = None

    @classmethod
    def availability(cls) -> str:
        """How the model would run here, in words.

        Raises
        ------
        MissingDependencyError
            Without torch or h5py.
        """
        try:
            import h5py  # noqa: F401
            import torch
        except ImportError as error:
            raise MissingDependencyError(
                f"a2z needs {error.name}: pip install 'meristem[models]'"
            ) from error
        if torch.cuda.is_available():
            return "cuda: torch"
        from featurestore.embedders.native.library import absence, kernels

        if (library := kernels()) is not None:
            return f"cpu: compiled kernels ({library.words})"
        return f"cpu: look-up tables and torch, no compiled kernels ({absence()})"

    def load(self, device: str | None) -> None:
        """Load the weights.

        Raises
        ------
        InputError
            Where the file does not hold this model.
        MissingDependencyError
            Without torch or h5py.
        """
        self.availability()
        import torch

        from featurestore.embedders.a2z.model import A2Z

        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._net = A2Z.from_checkpoint(self.path, dtype=self.spec.dtype).to(self._device)

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Outputs of windows.

        Parameters
        ----------
        codes : uint8 array, shape (n, 600)
            IUPAC codes.

        Returns
        -------
        float32 arrays: ``embedding``, shape (n, 925 or 640), and ``accessibility`` or
        ``methylation``, shape (n,)
        """
        if self._net is None:
            self.load(None)
        piece = self.spec.batch
        whole = -(-len(codes) // piece) * piece
        padded = np.full((whole, codes.shape[1]), N, np.uint8)
        padded[: len(codes)] = codes
        return {k: v[: len(codes)] for k, v in in_pieces(self._run, padded, piece).items()}

    def _run(self, codes: Codes) -> Outputs:
        import torch

        sets = torch.from_numpy(SET_OF_CODE[codes]).to(self._device)
        with torch.no_grad():
            state, embedding, probability = self._net.outputs_of_sets(sets)
        vectors = {"dense": embedding, "state": state}
        found: Outputs = {self.model: probability[:, 0].cpu().numpy()}
        if "embedding" in self.spec.outputs:
            found["embedding"] = vectors[self.spec.parameters["stored"]].cpu().numpy()
        return found

    def _map(self) -> dict[str, NDArray[np.float32]]:
        """The affine map from state to published embedding, shapes (925, 640) and (925,)."""
        tensors = _tensors(self.path)
        return {"state_map": tensors["dense.weight"], "state_offset": tensors["dense.bias"]}


def _tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    if path.suffix != ".safetensors":
        from featurestore.embedders.a2z.keras_file import read_keras

        return read_keras(path)
    from featurestore.embedders.a2z.model import A2Z

    return {k: v.numpy() for k, v in A2Z.from_safetensors(path).state_dict().items()}
