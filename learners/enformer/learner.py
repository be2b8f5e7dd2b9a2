"""``enformer``: Enformer trained or fine-tuned on tracks or on gene expression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.layout import check_layout
from learners.neural.presets import PresetLearner
from learners.search import Choice, Range, SearchSpace
from learners.targets import TargetScale

if TYPE_CHECKING:
    from torch import nn

    from featurestore.embedders.enformer import Enformer, EnformerConfig
    from learners.neural.objective import Objective
    from learners.neural.plan import TrainingPlan

SIGNAL: Final = "signal"
WINDOWS: Final = "long"
FOLDER: Final = "enformer"
"""In the folder of a saved learner: a checkpoint that every tool of this project reads."""

TRAINED: Final = ("all", "lora", "head")

_BASES_A_STEP: Final = 400_000

_TRAINING: Final[Mapping[str, Any]] = {
    "learning_rate": 5e-4, "weight_decay": 0.0, "batch_size": 0, "epochs": 0, "patience": 12,
    "warmup": 0.1, "schedule": "constant", "optimiser": "adam", "clip_norm": 0.2, "ema": 0.0,
    "amp": "auto", "shift": 3,
}  # fmt: skip

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "mini": {
        **_TRAINING, "dim": 96, "depth": 2, "heads": 4, "dim_divisible_by": 16, "attn_dim_key": 24,
        "dropout": 0.1, "learning_rate": 2e-3, "weight_decay": 1e-3,
        "schedule": "cosine", "optimiser": "adamw", "clip_norm": 1.0, "ema": 0.99,
    },
    "mini-long": {
        **_TRAINING, "dim": 48, "depth": 4, "heads": 1, "dim_divisible_by": 8, "attn_dim_key": 16,
        "dropout": 0.05, "learning_rate": 3e-3, "weight_decay": 1e-3, "batch_size": 2, "warmup": 0.04,
        "schedule": "cosine", "optimiser": "adamw", "clip_norm": 1.0, "shift": 0,
    },
    "enformer-plant": {
        **_TRAINING, "dim": 192, "depth": 4, "heads": 4, "dim_divisible_by": 16, "attn_dim_key": 32,
        "dropout": 0.2,
    },
    "enformer-small": {
        **_TRAINING, "dim": 384, "depth": 4, "heads": 4, "dim_divisible_by": 32, "attn_dim_key": 64,
        "dropout": 0.3,
    },
    "enformer": {
        **_TRAINING, "dim": 1536, "depth": 11, "heads": 8, "dim_divisible_by": 128, "attn_dim_key": 64,
        "dropout": 0.4, "batch_size": 64,
    },
    "tiny": {
        **_TRAINING, "dim": 48, "depth": 1, "heads": 2, "dim_divisible_by": 8, "attn_dim_key": 16,
        "dropout": 0.1, "learning_rate": 2e-3, "clip_norm": 1.0,
    },
}  # fmt: skip
"""``mini`` trains on two cores in minutes, ``mini-long`` on windows of 98 kb in half an hour: one head of
48 channels has eight functions of each kind to tell distances by, a head of 24 has four.
``enformer`` is the paper's network and schedule."""


class EnformerLearner(PresetLearner):
    """Enformer on windows of the genome.

    On task ``tracks`` it predicts every bin of every track, a head for each species, with the
    Poisson loss; on task ``expression`` the bins at the TSS of gene-centred windows, with squared
    error. How long the windows are is said by the features, not here.

    Parameters
    ----------
    preset : {"mini", "mini-long", "enformer-plant", "enformer-small", "enformer", "tiny"}
    checkpoint : str
        Folder or hub id of an Enformer to begin with, whose sizes then hold; empty: random weights.
    trained : {"all", "lora", "head"}
        What is fine-tuned of a checkpoint: everything; low-rank changes of the attention layers and
        the head; the head alone. In the last two the running statistics stay as they are.
    lora_rank : int
    context : int, optional
        Bases of sequence that a bin may look at, half to either side; all of the window by default.
        For comparisons: the same network, trained alike, that sees only what is near.
    window : int, optional
        Task ``expression``: bases of a gene's window.
    reverse_complement : bool
        Task ``tracks``: turns every other training window.
    checkpointing : bool
        Keeps less in memory while training, for a third more time.
    dim, depth, heads, dropout, learning_rate, weight_decay, batch_size, epochs, patience, shift, amp :
        optional
        None is the preset's. ``shift``: bases by which training windows are moved at most.
        ``batch_size``: without one as many windows as make 400 kb, 2 to 32. ``epochs``: without,
        as many as make about 6,000 steps, 8 to 60.
    """

    presets = PRESETS
    steps = (6000, 8, 60)
    apart = frozenset(
        {
            "checkpoint", "trained", "lora_rank", "context", "window", "reverse_complement",
            "checkpointing",
        }
    )  # fmt: skip
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": Range(2e-4, 5e-3, log=True),
        "dropout": Range(0.0, 0.5),
        "depth": Choice((1, 2, 4)),
        "weight_decay": Range(1e-6, 1e-1, log=True),
    }
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="enformer",
        inputs=frozenset({WINDOWS, SIGNAL}),
        summary="Enformer on long windows: tracks of every bin, or expression at the TSS",
        reference="Avsec et al., Nat. Methods 18:1196, 2021, doi:10.1038/s41592-021-01252-x",
        multi_output=True,
        requires=("torch",),
        defaults={
            "preset": "mini", "checkpoint": "", "trained": "all", "lora_rank": 8, "context": None,
            "window": None, "reverse_complement": True, "checkpointing": False, "dim": None,
            "depth": None, "heads": None, "dropout": None, "learning_rate": None,
            "weight_decay": None, "batch_size": None, "epochs": None, "patience": None,
            "shift": None, "amp": None,
        },
    )  # fmt: skip

    def __init__(
        self,
        *,
        preset: str = "mini",
        checkpoint: str = "",
        trained: str = "all",
        lora_rank: int = 8,
        context: int | None = None,
        window: int | None = None,
        reverse_complement: bool = True,
        checkpointing: bool = False,
        dim: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        dropout: float | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
        shift: int | None = None,
        amp: str | None = None,
    ) -> None:
        if trained not in TRAINED:
            raise unknown_name("trained", trained, TRAINED)
        if trained != "all" and not checkpoint:
            raise InputError(f"enformer: trained={trained} needs a checkpoint to begin with")
        if lora_rank < 1:
            raise InputError(f"enformer: lora_rank {lora_rank}; at least 1")
        if context is not None and context < 1:
            raise InputError(f"enformer: context {context}; give bases from 1")
        super().__init__(
            preset=preset, checkpoint=checkpoint, trained=trained, lora_rank=lora_rank,
            context=context, window=window, reverse_complement=reverse_complement,
            checkpointing=checkpointing, dim=dim, depth=depth, heads=heads, dropout=dropout,
            learning_rate=learning_rate, weight_decay=weight_decay, batch_size=batch_size,
            epochs=epochs, patience=patience, shift=shift, amp=amp,
        )  # fmt: skip
        self._tracks: dict[str, Any] = {}

    @classmethod
    def wanted_features(cls, params: Mapping[str, Any]) -> str:
        """Windows of the genome around each gene, of the length that ``window`` says."""
        window = params.get("window")
        return f"genome:{window}" if window else "genome"

    @property
    def checkpoint_digest(self) -> str:
        """Digest of what it begins with, whatever its folder is called; empty for random weights.

        Raises
        ------
        InputError
            Where ``checkpoint`` names none.
        """
        from featurestore.embedders.checkpoint import find_checkpoint

        name = self.parameters["checkpoint"]
        return find_checkpoint(name).digest() if name else ""

    # -- the network -------------------------------------------------------------------------

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Train; bit for bit repeatable on CPU for a seed and a number of threads."""
        self._tracks = _tracks_of(train)
        super().fit(train, valid, seed=seed, budget=budget)
        from learners.enformer.lora import merge_low_rank

        merge_low_rank(self._enformer())

    def objective(self) -> Objective | None:
        """Poisson on tracks; squared error on expression."""
        from learners.enformer.networks import PoissonTracks

        return PoissonTracks() if self._tracks else None

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network for windows of this layout."""
        from learners.enformer.lora import add_low_rank

        enformer = self._begin(_config(self.settings, layout, self._tracks, self.parameters))
        enformer.checkpointing = self.parameters["checkpointing"]
        network = self._around(enformer, layout, targets)
        trained = self.parameters["trained"]
        if trained != "all":
            enformer.requires_grad_(False)
            if trained == "lora":
                add_low_rank(enformer, self.parameters["lora_rank"])
            enformer.get_submodule("_heads").requires_grad_(True)
        return network

    def plan(self) -> TrainingPlan:
        """How to train it."""
        if not self.settings["batch_size"]:
            length = self._layout[_windows_of(self._layout)]["shape"][-1]
            size = min(max(_BASES_A_STEP // length, 2), 32)
            self.settings = {**self.settings, "batch_size": size}
        return super().plan()

    def _begin(self, config: EnformerConfig) -> Enformer:
        """Random weights, or those of the checkpoint with new heads."""
        from featurestore.embedders.enformer import Enformer

        name = self.parameters["checkpoint"]
        if not name:
            return Enformer(config)
        model = Enformer.from_pretrained(
            name, attention_reach=config.attention_reach, input_bp=config.input_bp,
            target_length=config.target_length,
        )  # fmt: skip
        return model.with_heads(config.track_names, config.head_species)

    def _around(self, enformer: Enformer, layout: Mapping[str, Any], targets: int) -> nn.Module:
        from learners.enformer.networks import ExpressionNetwork, TrackNetwork

        own = self.settings
        if self._tracks:
            return TrackNetwork(
                enformer, [(head, index) for head, index in self._tracks["place"]],
                self._tracks["opposite"], shift=own["shift"],
                turn=self.parameters["reverse_complement"], trained=self.parameters["trained"],
            )  # fmt: skip
        return ExpressionNetwork(
            enformer, _windows_of(layout), targets, dropout=own["dropout"], shift=own["shift"],
            trained=self.parameters["trained"],
        )  # fmt: skip

    def _enformer(self) -> Enformer:
        found: Any = self._fitted()
        model: Enformer = found.enformer
        return model

    # -- prediction --------------------------------------------------------------------------

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t); of windows the mean of each track over their bins."""
        if not self._tracks:
            return super().predict(batch)
        out = np.empty((len(batch), len(self._tracks["names"])))
        for index, tracks in self.predict_tracks(batch):
            out[index] = tracks.mean(axis=1, dtype=np.float64)
        return out

    def predict_tracks(
        self, batch: FeatureBatch
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Every bin of windows.

        Yields
        ------
        int64 array, shape (k,), and float32 array, shape (k, bins, tracks)
            Rows of the batch, and tracks in the order of the fit.
        """
        import torch

        from learners.neural.rows import tensors_of
        from learners.neural.training import reproducible

        if not self._tracks:
            raise InputError("enformer was fitted on expression, not on tracks")
        windows = replace(batch, blocks={"genome": batch.blocks["genome"]})
        check_layout({"genome": self._layout["genome"]}, windows)
        network = self._fitted().to(self._budget.device).eval()
        for part in windows.shards(4):
            with reproducible(0, self._budget), torch.no_grad():
                tracks = network(tensors_of(part, self._budget.device))
            yield part.index, tracks.float().cpu().numpy()

    # -- on disk -----------------------------------------------------------------------------

    def _write(self, path: Path) -> None:
        self._enformer().save_pretrained(path / FOLDER)
        state = self._fitted().state_dict()
        arrays = {n: t.cpu().numpy() for n, t in state.items() if not n.startswith("enformer.")}
        arrays |= {"target_mean": self._scale.mean, "target_deviation": self._scale.deviation}
        config = {
            "learner": self.info.name, "parameters": self.parameters, "layout": self._layout,
            "tracks": self._tracks,
        }  # fmt: skip
        save_state(path, config, arrays)

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; predicts on the CPU."""
        import torch

        from featurestore.embedders.enformer import Enformer

        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        learner = cls(**config["parameters"])
        learner._layout, learner._tracks = config["layout"], config["tracks"]
        learner._scale = TargetScale(arrays.pop("target_mean"), arrays.pop("target_deviation"))
        network = learner._around(
            Enformer.from_pretrained(path / FOLDER), learner._layout, len(learner._scale.mean)
        )
        own = {n for n in network.state_dict() if not n.startswith("enformer.")}
        if own != set(arrays):
            raise InputError(f"{path}: its arrays are not those of its settings; save it again")
        network.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=False)
        learner._network = network
        return learner


def _tracks_of(batch: FeatureBatch) -> dict[str, Any]:
    """Heads, places and names of the tracks of a batch, as plain JSON; empty without tracks."""
    block = next((b for b in batch.blocks.values() if b.kind == SIGNAL), None)
    if block is None:
        return {}
    source: Any = block.source
    names, heads = list(batch.target_names), list(source.head_of)
    count: dict[str, int] = {}
    place = []
    for head in heads:
        place.append([_plain(head), count.get(head, 0)])
        count[head] = count.get(head, 0) + 1
    opposite = getattr(source, "opposite", None)
    return {
        "names": names,
        "place": place,
        "species": {_plain(head): [head] for head in count},
        "opposite": list(range(len(names))) if opposite is None else [int(i) for i in opposite],
    }


def _plain(head: str) -> str:
    """A species as the name of a head."""
    text = "".join(c if c.isalnum() else "_" for c in head)
    return text if text.isidentifier() else f"species_{text}"


def _windows_of(layout: Mapping[str, Any]) -> str:
    """The feature that holds windows."""
    found = [name for name, block in layout.items() if block["kind"] == WINDOWS]
    if len(found) != 1:
        raise InputError(
            f"enformer takes one feature of windows, such as genome:196608; there are {found or 'none'}"
        )
    return found[0]


def _config(
    settings: Mapping[str, Any],
    layout: Mapping[str, Any],
    tracks: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> EnformerConfig:
    """Sizes of a network for such windows."""
    from featurestore.embedders.enformer import EnformerConfig

    length = int(layout[_windows_of(layout)]["shape"][-1])
    signal = next((b for b in layout.values() if b["kind"] == SIGNAL), None)
    published = EnformerConfig()  # of a window of any length its share of bins is predicted
    names: dict[str, list[str]] = {}
    for (head, _), name in zip(tracks.get("place", ()), tracks.get("names", ()), strict=True):
        names.setdefault(head, []).append(name)
    if parameters["checkpoint"]:
        config = EnformerConfig.from_pretrained(parameters["checkpoint"]).with_heads({})
        # Its sizes are kept, its window is not: that of the run is what the trained model reads.
        kept = published.cropped(length // config.bin_bp)
        config = replace(config, input_bp=length, target_length=kept)
    else:
        kept = published.cropped(length // 128) if signal is None else int(signal["shape"][0])
        config = EnformerConfig(
            dim=settings["dim"], depth=settings["depth"], heads=settings["heads"],
            dim_divisible_by=settings["dim_divisible_by"], attn_dim_key=settings["attn_dim_key"],
            dropout_rate=settings["dropout"], input_bp=length, target_length=kept, output_heads={},
        )  # fmt: skip
    if parameters["context"]:
        config = replace(config, attention_reach=config.reach_for(parameters["context"]))
    if not tracks:
        return config
    found = config.with_heads(names, tracks["species"])
    if signal is not None and found.cropped(length // found.bin_bp) != signal["shape"][0]:
        raise InputError(
            f"enformer: windows of {length:,} bp give {found.cropped(length // found.bin_bp)} bins, the "
            f"tracks have {signal['shape'][0]}"
        )
    return found
