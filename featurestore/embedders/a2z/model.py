"""a2z as a torch module: loaded from Keras or safetensors, trained or run.

Module form: ``conv``, ``lstm``, ``dense``, ``output``. With gradients off, on a processor, one-hot
windows go through the compiled kernels (:mod:`.kernels`), or, where nothing can be compiled, through
:mod:`.word_tables` and ``torch.nn.LSTM``. In every other case they go through torch's own layers, the
form that the others are tested against.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.a2z.architecture import (
    BASES,
    EMBEDDING,
    FILTERS,
    POOL,
    SHAPES,
    STATE,
    STEPS,
    UNITS,
    WIDTH,
    WINDOW,
)
from featurestore.embedders.a2z.keras_file import read_keras
from featurestore.embedders.a2z.kernels import CompiledForm, compiled_form
from featurestore.embedders.a2z.published import find_weights
from featurestore.embedders.a2z.word_tables import LookUpForm, WordTables, fractions
from featurestore.embedders.checkpoint import read_tensors
from featurestore.errors import InputError

DTYPES: Final = ("fp32", "bf16")
"""Of the LSTM's matrix products and states; all else stays in float32."""

Outputs = tuple[Tensor, Tensor, Tensor]
"""State (n, 640), embedding (n, 925), probability (n, 1)."""

DROPOUT: Final = (0.2, 0.5)
"""After the convolution and after the LSTM, in training."""


class A2Z(nn.Module):
    """a2z (Wrightsman et al. 2022, doi 10.1002/tpg2.20249): 600 bp → embedding and probability.

    Examples
    --------
    >>> model = A2Z.from_keras("model-accessibility-full.h5")  # doctest: +SKIP
    >>> embedding, probability = model(x)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(BASES, FILTERS, WIDTH)
        self.lstm = nn.LSTM(FILTERS, UNITS, bidirectional=True)
        self.dense = nn.Linear(STATE, EMBEDDING)
        self.output = nn.Linear(EMBEDDING, 1)
        self.compute_dtype = "fp32"
        self.register_buffer("fractions", fractions(), persistent=False)
        self._prepared: tuple[Any, LookUpForm | CompiledForm] | None = None
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):  # Keras has one bias; a second would train twice as fast
                nn.init.zeros_(parameter).requires_grad_(False)

    @classmethod
    def from_keras(cls, path: str | Path, dtype: str = "fp32") -> Self:
        """Load a legacy Keras HDF5 file, in eval mode; see :func:`.keras_file.read_keras`."""
        tensors = {key: torch.from_numpy(value) for key, value in read_keras(path).items()}
        return cls._filled(tensors, str(path), dtype)

    @classmethod
    def from_safetensors(cls, path: str | Path, dtype: str = "fp32") -> Self:
        """Load what :meth:`save_safetensors` wrote, in eval mode.

        Raises
        ------
        InputError
            For a file that is missing or damaged, and for tensors that are not a2z's.
        """
        path = find_weights(path)
        return cls._filled(read_tensors((path,)), str(path), dtype)

    @classmethod
    def from_checkpoint(cls, path: str | Path, model: str = "", dtype: str = "fp32") -> Self:
        """Load a ``.h5`` or ``.safetensors`` file, or the one in a folder.

        ``model`` says which where a folder holds both published ones.
        """
        file = find_weights(path, model)
        load = cls.from_safetensors if file.suffix == ".safetensors" else cls.from_keras
        return load(file, dtype)

    @classmethod
    def _filled(cls, tensors: Mapping[str, Tensor], where: str, dtype: str) -> Self:
        if dtype not in DTYPES:
            raise InputError(f"a2z: dtype = {dtype!r}; choose {' or '.join(DTYPES)}")
        if set(tensors) != set(SHAPES):
            missing, other = sorted(set(SHAPES) - set(tensors)), sorted(set(tensors) - set(SHAPES))
            raise InputError(
                f"{where}: holds no a2z model: missing {missing or 'nothing'}, unknown {other[:5] or 'none'}; "
                "python -m featurestore.embedders.a2z.convert makes one from the Keras file"
            )
        for key, value in tensors.items():
            if tuple(value.shape) != SHAPES[key] or value.dtype != torch.float32:
                raise InputError(
                    f"{where}: {key} is {value.dtype} {tuple(value.shape)} where a2z has float32 {SHAPES[key]}"
                )
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{where}: {key} holds numbers that are not finite")
        model = cls()
        model.load_state_dict(dict(tensors))
        model.compute_dtype = dtype
        return model.eval()

    def save_safetensors(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write all tensors; the file appears whole or not at all.

        Parameters
        ----------
        metadata : mapping, optional
            Further facts for the header, such as where the weights come from.
        """
        from safetensors.torch import save_file

        path = Path(path)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            save_file(
                tensors, partial, metadata={"format": "pt", "model": "a2z", **(metadata or {})}
            )
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        """The map from state to embedding, shapes (925, 640) and (925,).

        ``embedding = state @ weight.T + offset``: nothing bends between them, so the state holds
        all that the embedding does in 640 numbers instead of 925.
        """
        return self.dense.weight.detach(), self.dense.bias.detach()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and probability.

        Parameters
        ----------
        x : float32 tensor, shape (n, 600, 4)
            One-hot in the order A C G T; equal parts for ambiguous bases (N: a quarter each),
            zeros for unknown letters. Any other numbers are convolved as they are.

        Returns
        -------
        tensors, shapes (n, 925) and (n, 1)
        """
        return self.outputs(x)[1:]

    def state(self, x: Tensor) -> Tensor:
        """Last states of both LSTM directions, shape (n, 640): forward, then backward."""
        return self.outputs(x)[0]

    def outputs(self, x: Tensor) -> Outputs:
        """State, embedding and probability; see :meth:`forward`."""
        self._check(x)
        if not self._looks_up(x.device):
            return self.plain_outputs(x)
        sets, exact = self._fast().sets(x)
        found = self._fast().outputs(sets)
        if bool(exact.all()):
            return found
        # by window, so that no window's value depends on another's
        state, embedding, probability = (
            torch.where(exact[:, None], own, plain)
            for own, plain in zip(found, self.plain_outputs(x), strict=True)
        )
        return state, embedding, probability

    def outputs_of_sets(self, sets: Tensor) -> Outputs:
        """The same of sets of bases (:mod:`.word_tables`), uint8, shape (n, 600)."""
        if not self._looks_up(sets.device):
            return self.plain_outputs(self.table[sets.long()])
        return self._fast().outputs(sets)

    def plain_outputs(self, x: Tensor) -> Outputs:
        """State, embedding and probability by torch's layers alone."""
        state = self._recur(self.plain_pooled(x))
        return state, *self.heads(state)

    def _looks_up(self, device: torch.device) -> bool:
        """Whether the convolution goes by tables: on a processor, where nothing is trained."""
        differentiates = torch.is_grad_enabled() or self.training
        return not differentiates and device.type == "cpu" and self.table.dtype == torch.float32

    def plain_pooled(self, x: Tensor) -> Tensor:
        """ReLU of the convolution, its maximum in each pool, shape (44, n, 320)."""
        with _exact_products(x.device):
            filtered = F.relu(self.conv(x.transpose(1, 2)))
        filtered = F.dropout(filtered, DROPOUT[0], self.training)
        return F.max_pool1d(filtered, POOL).permute(2, 0, 1)

    def heads(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and probability of states, shape (n, 640)."""
        embedding = self.dense(F.dropout(state, DROPOUT[1], self.training))
        return embedding, torch.sigmoid(self.output(embedding))

    @property
    def table(self) -> Tensor:
        """One-hot of each set of bases, shape (16, 4)."""
        found: Tensor = self.fractions  # type: ignore[assignment] # a registered buffer
        return found

    def _recur(self, pooled: Tensor) -> Tensor:
        steps, n, _ = pooled.shape
        assert steps == STEPS  # noqa: S101 # follows from the checked width of the input
        if not n:
            return pooled.new_zeros(0, STATE)
        if self.compute_dtype == "bf16":
            low: AbstractContextManager[Any] = torch.autocast(pooled.device.type, torch.bfloat16)
        else:
            low = _exact_products(pooled.device)
        with low:
            _, (last, _) = self.lstm(pooled.contiguous())
        state: Tensor = last.to(pooled.dtype).transpose(0, 1).reshape(n, STATE)
        return state

    def _fast(self) -> LookUpForm | CompiledForm:
        """The form without gradients, made anew when a parameter was written to or replaced."""
        key = (
            self.compute_dtype,
            *((p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.parameters()),
        )
        if self._prepared is None or self._prepared[0] != key:
            weight, bias = self.conv.weight, self.conv.bias
            assert bias is not None  # noqa: S101 # Conv1d is made with one above
            tables = WordTables(weight, bias)
            made = compiled_form(tables, self.state_dict(), self.compute_dtype)
            self._prepared = key, made or LookUpForm(tables, self.table, self._recur, self.heads)
        return self._prepared[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}  # loaded code cannot be copied

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or tuple(x.shape[1:]) != (WINDOW, BASES):
            turned = "; bases are the last axis" if tuple(x.shape[1:]) == (BASES, WINDOW) else ""
            raise InputError(
                f"a2z reads windows of shape (n, {WINDOW}, {BASES}), these are {tuple(x.shape)}{turned}"
            )
        if x.dtype != self.conv.weight.dtype:
            raise InputError(f"a2z reads {self.conv.weight.dtype} one-hot, this is {x.dtype}")


def _exact_products(device: torch.device) -> AbstractContextManager[Any]:
    """On CUDA, float32 products in float32: cuDNN would take TF32, which has ten bits."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
