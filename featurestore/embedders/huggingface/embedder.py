"""``huggingface``: embeddings of any masked or causal model of ``transformers``, by recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.embedders.batching import Outputs, in_pieces, is_out_of_memory
from featurestore.embedders.checkpoint import Checkpoint, file_digest, find_checkpoint
from featurestore.embedders.huggingface import supported
from featurestore.embedders.huggingface.alignment import Aligner, Tokens
from featurestore.embedders.huggingface.writing import Writing
from featurestore.embedders.recipe import Recipe, make_recipe
from featurestore.errors import InputError, MeristemError, MissingDependencyError
from featurestore.sequence.iupac import N, reverse_complement

DTYPES: Final = ("fp32", "bf16", "fp16")
CPU_PIECE: Final = 8
"""Windows at a time on a processor; more gain nothing there and only take memory."""
PIECES_PER_CALL: Final = 4
"""Windows of different token counts run apart; with several pieces a call few rows run empty."""
STEP: Final = 32
"""Token counts are padded to a multiple of this, so that few shapes occur."""
_RC_RULES: Final = {
    "average": "mean of both strands: the reverse complement is run too, its positions mirrored",
    "forward": "forward strand",
    "both": "both strands beside each other: the reverse complement is run too, its positions mirrored",
}
_BLIND: Final = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 1e-2}
"""Largest change by padding, relative to the largest hidden state, that is rounding."""


@dataclass(frozen=True)
class _Loaded:
    """What :meth:`HuggingFace.load` leaves."""

    model: Any
    align: Aligner
    device: Any
    step: int


class HuggingFace:
    """Any masked or causal genomic model that transformers loads with its own code.

    Parameters
    ----------
    checkpoint : str
        Folder, or hub id such as ``InstaDeepAI/agro-nucleotide-transformer-1b``.
    recipe : str or mapping, optional
        Which hidden states become the vector; see :mod:`featurestore.embedders.recipe`. Default:
        mean of the central 250 of 512 bp, or of what the model takes, strand-averaged.
    dtype : {"fp32", "bf16", "fp16"}
        Of weights and activations; never chosen by the device.
    batch : int
        Windows at a time on an accelerator. Out of memory halves it and goes on.
    revision : str, optional
        Of a hub repository.
    tokens : str
        ``plain``, ``overlapping-6`` (DNABERT) or ``separate-6``: how bases are written for the tokenizer.
    case : {"upper", "lower"}
        Of the letters.
    ambiguous : str
        Letter for every code other than A C G T, or ``keep``.
    native : bool
        Use transformers' own class although the repository names code of its own.
    licence, pretraining_species : optional
        Of the weights; the licence is read from the model card where it says one.
    """

    pads_itself = True

    def __init__(
        self,
        checkpoint: str = "",
        recipe: str | Mapping[str, Any] | None = None,
        dtype: str = "fp32",
        batch: int = 32,
        revision: str | None = None,
        tokens: str = "plain",
        case: str = "upper",
        ambiguous: str = "N",
        native: bool = False,
        licence: str = "",
        pretraining_species: Sequence[str] = (),
    ) -> None:
        if not checkpoint:
            raise InputError(
                "huggingface needs checkpoint = a folder or a hub id, such as "
                "InstaDeepAI/agro-nucleotide-transformer-1b"
            )
        if dtype not in DTYPES:
            raise InputError(f"huggingface: dtype = {dtype!r}; choose {', '.join(DTYPES)}")
        if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
            raise InputError(f"huggingface: batch = {batch!r}; give a number of windows from 1")
        self.writing = Writing(tokens, case, ambiguous)
        self.checkpoint: Checkpoint = find_checkpoint(checkpoint, revision=revision)
        self.config = supported.check_config(self.checkpoint, native=native)
        supported.check_tokenizer(self.checkpoint, native=native)
        width, layers, positions = supported.sizes(self.config, self.checkpoint)
        given = {"window": _default_window(positions)} if recipe is None else recipe
        self.recipe: Recipe = make_recipe(given, "huggingface: recipe")
        if not -1 <= self.recipe.layer <= layers:
            raise InputError(
                f"huggingface: layer = {self.recipe.layer}; this checkpoint has layers −1 to {layers}"
            )
        self.batch, self.native, self._width = batch, native, width
        self._loaded: _Loaded | None = None
        self.spec = self._describe(dtype, licence, pretraining_species)

    def _describe(self, dtype: str, licence: str, species: Sequence[str]) -> EmbedderSpec:
        recipe, writing, checkpoint = self.recipe, self.writing, self.checkpoint
        return EmbedderSpec(
            type="huggingface",
            outputs={"embedding": 2 * self._width if recipe.strands == "both" else self._width},
            input_bp=recipe.window,
            span_bp=None if recipe.pool == "token" else recipe.span,
            positions=recipe.span if recipe.pool == "tokens" else 0,
            context=recipe.context,
            dtype=dtype,
            checkpoint=checkpoint.name,
            digest=_digest(checkpoint),
            licence=licence or supported.card_licence(checkpoint.folder) or "not stated",
            rc_rule=_RC_RULES[recipe.strands],
            iupac_rule=_iupac_rule(writing, checkpoint),
            pooling=f"{recipe.text}; a base has the mean of the tokens that cover it, special tokens none",
            pretraining_species=tuple(species),
            parameters={
                "checkpoint": checkpoint.name, "recipe": recipe.as_dict(), "dtype": dtype,
                "batch": self.batch, "native": self.native, **asdict(writing),
                "model_type": self.config["model_type"],
            },
            batch=self.batch * PIECES_PER_CALL,
        )  # fmt: skip

    @classmethod
    def availability(cls) -> str:
        """Where it would run here, in words.

        Raises
        ------
        MissingDependencyError
            Without torch or transformers.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingDependencyError(
                f"huggingface needs {error.name}: pip install 'meristem[models]'"
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return f"{device}: transformers {transformers.__version__}"

    def load(self, device: str | None) -> None:
        """Load weights and tokenizer, and try them on a random sequence.

        Raises
        ------
        InputError
            Where the files do not hold a model of transformers, tokens and bases do not fit, or
            the window is longer than the model takes.
        MissingDependencyError
            Without torch or transformers.
        """
        self.availability()
        import torch

        from featurestore.embedders.huggingface.model import load_model

        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = load_model(self.checkpoint, self.config, self.spec.dtype, place)
        align = Aligner(model.tokenizer, self.writing)
        probe = self._probe(model, align)
        self._loaded = _Loaded(model, align, place, 1)
        self._loaded = _Loaded(model, align, place, self._step(self._loaded, probe))

    @property
    def step(self) -> int:
        """Multiple that token counts are padded to; 1 where the model would feel the padding."""
        return self._ready().step

    def _probe(self, model: Any, align: Aligner) -> Tokens:
        """Tokens of a random window, once it is clear that the tokenizer reads DNA."""
        rng = np.random.Generator(np.random.PCG64(0))
        codes = rng.integers(0, 4, (2, self.recipe.window)).astype(np.uint8)
        codes[1] = N  # whatever else the vocabulary lacks, padding off a contig is met
        probe, unknown = align(codes)
        known = probe.ids[probe.stop > probe.start] != model.tokenizer.unk_token_id
        if not known.all():
            raise InputError(
                f"huggingface: {align.name} of {self.checkpoint.name} does not know "
                f"{int((~known).sum())} of {len(known)} tokens of a random sequence of A C G T, written as "
                f"{self.writing.texts(codes[:1, :20])[0]!r} …; see the settings tokens and case"
            )
        if model.limit is not None and len(probe) > model.limit:
            fits = self.recipe.window * (model.limit - 2) // len(probe)
            raise InputError(
                f"huggingface: a window of {self.recipe.window} bp is {len(probe)} tokens of {align.name}, "
                f"and {self.checkpoint.name} takes {model.limit}; give recipe = {{ window = {fits} }} or less"
            )
        if model.limit is not None:  # now rather than at the first gap of an assembly
            unknown.cropped(model.limit, *self.recipe.bounds)
        return probe

    def _step(self, loaded: _Loaded, probe: Tokens) -> int:
        """Multiple that token counts are padded to: 1 for a model whose numbers feel the padding."""
        room = len(probe) + STEP
        if loaded.model.limit is not None:
            room = min(room, loaded.model.limit)
        try:
            plain, padded = (
                self._hidden(loaded, self._matrix(loaded, [probe], count))
                for count in (len(probe), room)
            )
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if is_out_of_memory(error) or isinstance(error, MeristemError):
                raise
            raise InputError(
                f"{self.checkpoint.name}: model_type {self.config['model_type']!r} does not run on "
                f"{len(probe)} tokens as they are: {str(error)[:200]}"
            ) from error
        if plain.shape[-1] != self._width:
            raise InputError(
                f"{self.checkpoint.name}: hidden states have {plain.shape[-1]} channels where config.json "
                f"says {self._width}"
            )
        felt = (plain - padded[:, : len(probe)]).abs().max()
        blind = bool(felt <= _BLIND[self.spec.dtype] * plain.abs().max())
        return STEP if loaded.model.takes_mask and blind else 1

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Vectors of windows; zeros for one without any A, C, G or T.

        Parameters
        ----------
        codes : uint8 array, shape (n, window)

        Returns
        -------
        ``embedding``: float32 array, shape (n, channels), or (n, span, channels) for per-token recipes
        """
        if self._loaded is None:
            self.load(None)
        start, stop = self.recipe.bounds
        length = codes.shape[1]
        countable = (codes < 4).any(axis=1)
        strands = [self._strand(codes[countable], start, stop)]
        if self.recipe.strands != "forward":
            other = reverse_complement(codes[countable])
            reverse = self._strand(other, length - stop, length - start)
            strands.append(reverse[:, ::-1] if self.recipe.pool == "tokens" else reverse)
        joined = (
            np.concatenate(strands, axis=-1)
            if self.recipe.strands == "both"
            else np.mean(strands, axis=0, dtype=np.float32)
        )
        full = np.zeros((len(codes), *joined.shape[1:]), np.float32)
        full[countable] = joined
        return {"embedding": full}

    def _strand(self, codes: NDArray[np.uint8], first: int, last: int) -> NDArray[np.float32]:
        """Vectors of one strand, (n, channels) or (n, last − first, channels).

        Windows run with others of the same padded token count, in pieces of a fixed number of
        rows: the shape a window is computed in follows from the window alone.
        """
        loaded = self._ready()
        per_base = self.recipe.pool == "tokens"
        shape = (last - first, self._width) if per_base else (self._width,)
        result = np.zeros((len(codes), *shape), np.float32)
        if not len(codes):
            return result
        limit = loaded.model.limit
        tokens = loaded.align(codes)
        if limit is not None:
            tokens = [t.cropped(limit, first, last) for t in tokens]
        counts = np.array([-(-len(t) // loaded.step) * loaded.step for t in tokens])
        if limit is not None:
            counts = np.minimum(counts, limit)
        rows = self.batch if loaded.device.type == "cuda" else min(self.batch, CPU_PIECE)
        for count in np.unique(counts).tolist():
            own = np.flatnonzero(counts == count)
            filled = np.concatenate([own, np.repeat(own[-1:], -len(own) % rows)])

            def run(which: NDArray[np.int64], count: int = count) -> Outputs:
                return {"embedding": self._pooled([tokens[i] for i in which], count, first, last)}

            result[own] = in_pieces(run, filled, rows)["embedding"][: len(own)]
        return result

    def _pooled(
        self, tokens: list[Tokens], count: int, first: int, last: int
    ) -> NDArray[np.float32]:
        import torch

        loaded = self._ready()
        per_base = self.recipe.pool == "tokens"
        weights = np.zeros((len(tokens), last - first if per_base else 1, count), np.float32)
        for row, own in zip(weights, tokens, strict=True):
            row[:, : len(own)] = (
                own.base_weights(first, last) if per_base else own.mean_weights(first, last)
            )
        hidden = self._hidden(loaded, self._matrix(loaded, tokens, count))
        pooled = torch.bmm(torch.from_numpy(weights).to(loaded.device), hidden).cpu().numpy()
        return pooled if per_base else pooled[:, 0]

    def _matrix(self, loaded: _Loaded, tokens: list[Tokens], count: int) -> NDArray[np.int64]:
        """Ids and mask, shape (2, n, count)."""
        both = np.zeros((2, len(tokens), count), np.int64)
        both[0] = loaded.model.pad
        for i, own in enumerate(tokens):
            both[0, i, : len(own)] = own.ids
            both[1, i, : len(own)] = 1
        highest = int((both[0] * both[1]).max())
        if highest >= loaded.model.vocabulary:
            raise InputError(
                f"{self.checkpoint.name}: its tokenizer gives token {highest}, and the model has "
                f"{loaded.model.vocabulary}; they are of different models"
            )
        return both

    def _hidden(self, loaded: _Loaded, both: NDArray[np.int64]) -> Any:
        import torch

        ids, mask = torch.from_numpy(both).to(loaded.device)
        return loaded.model.hidden(ids, mask, self.recipe.layer)

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise MeristemError("huggingface: call load first")
        return self._loaded


def _default_window(positions: int | None) -> int:
    """512 bp; less where the model has fewer positions than bases, but never less than a bin."""
    fits = 512 if positions is None else min(512, (positions - 2) // 2 * 2)
    return fits if fits >= Recipe().span else 512


def _digest(checkpoint: Checkpoint) -> str:
    """Sha256 over configuration, weights and tokenizer."""
    parts = [
        f"{name} {file_digest(checkpoint.folder / name)}"
        for name in supported.TOKENIZER_FILES
        if (checkpoint.folder / name).is_file()
    ]
    parts.append(checkpoint.digest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _iupac_rule(writing: Writing, checkpoint: Checkpoint) -> str:
    """How codes other than A C G T reach the model, as far as the vocabulary's files tell."""
    known = supported.single_letters(checkpoint.folder)
    letters = "".join(dict.fromkeys(writing.letters[4:]))
    told = f"written as {letters}" if writing.ambiguous != "keep" else "each its own letter"
    if known is None:
        return f"codes other than A C G T are {told}, read as the tokenizer does"
    folded = {x.casefold() for x in known}
    has = "".join(x for x in letters if x.casefold() in folded)
    lacks = "".join(x for x in letters if x.casefold() not in folded)
    parts = [
        f"{has}: letters of the vocabulary" if has else "",
        f"{lacks}: not in the vocabulary as letters, the unknown token if it has one"
        if lacks
        else "",
    ]
    return f"codes other than A C G T are {told} ({'; '.join(p for p in parts if p)})"
