"""``enformer``: the trunk of an Enformer around the TSS of each gene, whole or summarised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.embedders.batching import Codes, Outputs, in_pieces
from featurestore.embedders.checkpoint import find_checkpoint
from featurestore.embedders.enformer.configuration import EnformerConfig
from featurestore.errors import InputError, MissingDependencyError
from featurestore.sequence.iupac import reverse_complement

DTYPES: Final = ("fp32", "bf16")
STRANDS: Final = ("forward", "average")
PUBLISHED: Final = "EleutherAI/enformer-official-rough"
LICENCES: Final = {PUBLISHED.rsplit("/", 1)[-1]: "cc-by-4.0"}
"""Of published weights, by the last part of the hub id."""
SPECIES_OF_HEAD: Final = {"human": "homo_sapiens", "mouse": "mus_musculus"}
"""What the heads of the published model stand for; a model trained here says so itself."""

AT_ONCE: Final = 8
"""Windows of one call where an accelerator computes; a processor takes them one by one."""


class EnformerEmbedder:
    """Enformer's trunk on one long window a gene, centred on its TSS (Avsec et al. 2021).

    Parameters
    ----------
    checkpoint : str
        Folder, or hub id such as ``EleutherAI/enformer-official-rough``; what ``bench run`` trains
        is such a folder too.
    keep : {"tss", "trunk"} or int
        ``tss``: the mean of the three bins around the TSS (447 to 449 of 896). ``trunk``: every bin.
        A number n: means over n equal groups of bins.
    strands : {"forward", "average"}
        ``average``: the mean of a window and of its reverse complement, whose bins are turned round.
    shifts : sequence of int
        Windows that begin so many bp further downstream, averaged.
    dtype : {"fp32", "bf16"}
        Of the matrix products; never chosen by the device.
    batch : int
        Windows at a time on an accelerator; values do not depend on it. Out of memory halves it.
    revision : str, optional
        Of a hub repository.
    licence, pretraining_species : optional
        For weights that are not the published ones.
    """

    pads_itself = True

    def __init__(
        self,
        checkpoint: str = "",
        keep: str | int = "tss",
        strands: str = "forward",
        shifts: Sequence[int] = (0,),
        dtype: str = "fp32",
        batch: int = AT_ONCE,
        revision: str | None = None,
        licence: str = "",
        pretraining_species: Sequence[str] = (),
    ) -> None:
        if not checkpoint:
            raise InputError(
                f"enformer needs checkpoint = a folder or a hub id, such as {PUBLISHED}"
            )
        _check_choices(strands, dtype, batch)
        self.shifts = _whole_numbers(shifts)
        self.strands, self.piece = strands, batch
        self.checkpoint = find_checkpoint(checkpoint, revision=revision)
        where = str(self.checkpoint.folder / "config.json")
        self.config = EnformerConfig.from_dict(self.checkpoint.config(), where)
        self._groups = _groups(keep, self.config.target_length)
        self.margin = max(map(abs, self.shifts))
        name = self.checkpoint.name
        self.spec = EmbedderSpec(
            type="enformer",
            outputs={"embedding": 2 * self.config.dim},
            input_bp=self.config.input_bp + 2 * self.margin,
            positions=len(self._groups),
            context="gene",
            anchor="tss",
            dtype=dtype,
            checkpoint=name,
            digest=self.checkpoint.digest(),
            licence=licence or LICENCES.get(name.rsplit("/", 1)[-1], "not stated"),
            rc_rule={
                "forward": "forward strand",
                "average": "mean of the window and its reverse complement, bins of the latter turned round",
            }[strands],
            iupac_rule="fractional one-hot; N is four zeros",
            pooling=_pooling(keep, self._groups, self.config.bin_bp, self.shifts),
            pretraining_species=tuple(pretraining_species) or _species(self.config),
            parameters={
                "checkpoint": name, "keep": keep, "strands": strands, "shifts": list(self.shifts),
                "dtype": dtype,
            },
            batch=AT_ONCE,
            constants={"bin_start": _bin_start(self._groups, self.config)},
        )  # fmt: skip
        self._model: Any = None

    @classmethod
    def availability(cls) -> str:
        """What would compute it here, in words.

        Raises
        ------
        MissingDependencyError
            Without torch or safetensors.
        """
        try:
            import safetensors  # noqa: F401
            import torch
        except ImportError as error:
            raise MissingDependencyError(
                f"enformer needs {error.name}: pip install 'meristem[models]'"
            ) from error
        return "cuda: plain torch" if torch.cuda.is_available() else "cpu: plain torch"

    @property
    def passes(self) -> int:
        """How often the model reads each window: strands times shifts."""
        return len(self.shifts) * (2 if self.strands == "average" else 1)

    @property
    def step(self) -> int:
        """Windows to hand over at a time: on a processor one, so that little is lost by a kill."""
        on_processor = self._model is not None and self._device.type == "cpu"
        return 1 if on_processor else self.piece

    def load(self, device: str | None) -> None:
        """Load the weights.

        Raises
        ------
        InputError
            Where the files do not hold this model.
        MissingDependencyError
            Without torch or safetensors.
        """
        self.availability()
        import torch

        from featurestore.embedders.enformer.modeling import Enformer

        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = Enformer.from_pretrained(self.checkpoint.folder, dtype=self.spec.dtype)
        self._model = model.to(self._device).requires_grad_(False)

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Vectors of windows.

        Parameters
        ----------
        codes : uint8 array, shape (n, input_bp)

        Returns
        -------
        ``embedding``: float32 array, shape (n, bins kept, 2 · dim)
        """
        if self._model is None:
            self.load(None)
        return in_pieces(self._all_passes, codes, self.step)

    def probe(self, codes: NDArray[np.uint8]) -> None:
        """Read windows once, whatever :attr:`passes` says: to see how long it takes."""
        if self._model is None:
            self.load(None)
        self._pass(codes, self.shifts[0], reverse=False)

    def _all_passes(self, codes: Codes) -> Outputs:
        total = np.zeros((len(codes), len(self._groups), 2 * self.config.dim), np.float32)
        for shift in self.shifts:
            for reverse in (False, True) if self.strands == "average" else (False,):
                total += self._pass(codes, shift, reverse=reverse)
        return {"embedding": total / np.float32(self.passes)}

    def _pass(self, codes: Codes, shift: int, *, reverse: bool) -> NDArray[np.float32]:
        """Kept bins of windows moved downstream by ``shift``, shape (n, bins kept, 2 · dim)."""
        import torch

        first = self.margin + shift
        read = codes[:, first : first + self.config.input_bp]
        if reverse:
            read = reverse_complement(read)
        with torch.no_grad():
            bins = self._model.embed(self._model.one_hot(np.ascontiguousarray(read)))
            if reverse:
                bins = bins.flip(1)
            kept = torch.stack([bins[:, low:high].mean(1) for low, high in self._groups], dim=1)
            found: NDArray[np.float32] = kept.float().cpu().numpy()
        return found


def _check_choices(strands: str, dtype: str, batch: int) -> None:
    for name, value, choices in (("strands", strands, STRANDS), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise InputError(f"enformer: {name} = {value!r}; choose {', '.join(choices)}")
    if not isinstance(batch, int) or batch < 1:
        raise InputError(f"enformer: batch = {batch!r}; give a number of windows from 1")


def _whole_numbers(shifts: Sequence[int]) -> tuple[int, ...]:
    listed = list(shifts) if isinstance(shifts, Sequence) and not isinstance(shifts, str) else []
    whole = all(isinstance(s, int) and not isinstance(s, bool) for s in listed)
    if not listed or not whole or len(set(listed)) < len(listed):
        raise InputError(
            f"enformer: shifts = {shifts!r}; give different whole numbers of bp, such as [-3, 0, 3]"
        )
    return tuple(sorted(listed))


def _groups(keep: str | int, bins: int) -> list[tuple[int, int]]:
    """Bins of the trunk, half-open, that each stored bin is the mean of."""
    if keep == "tss":
        return [(max(bins // 2 - 1, 0), min(bins // 2 + 2, bins))]
    count = bins if keep == "trunk" else keep
    if isinstance(count, bool) or not isinstance(count, int) or count < 1 or bins % count:
        raise InputError(
            f'enformer: keep = {keep!r}; choose "tss", "trunk", or a number of equal groups of the '
            f"{bins} bins: {', '.join(str(n) for n in range(1, bins + 1) if bins % n == 0)}"
        )
    size = bins // count
    return [(i * size, (i + 1) * size) for i in range(count)]


def _bin_start(groups: Sequence[tuple[int, int]], config: EnformerConfig) -> NDArray[np.int32]:
    """First base of each stored bin in bp from the TSS, which is the middle of the window."""
    edge = config.target_length * config.bin_bp // 2
    return np.array([low * config.bin_bp - edge for low, _ in groups], np.int32)


def _pooling(
    keep: str | int, groups: Sequence[tuple[int, int]], bin_bp: int, shifts: Sequence[int]
) -> str:
    low, high = groups[0]
    told = f"mean of bins {low} to {high - 1} of the trunk" if keep == "tss" else "every bin of the trunk"  # fmt: skip
    if keep not in ("tss", "trunk"):
        told = f"means over {len(groups)} groups of {high - low} bins of the trunk"
    moved = f"; mean over shifts of {', '.join(map(str, shifts))} bp" if list(shifts) != [0] else ""
    return f"{told}, {bin_bp} bp each{moved}"


def _species(config: EnformerConfig) -> tuple[str, ...]:
    """Species whose tracks the model was trained on, as its heads tell."""
    named = [name for listed in config.head_species.values() for name in listed]
    heads = [h for h in config.output_heads if h not in config.head_species]
    named += [SPECIES_OF_HEAD[head] for head in heads if head in SPECIES_OF_HEAD]
    return tuple(sorted(set(named)))
