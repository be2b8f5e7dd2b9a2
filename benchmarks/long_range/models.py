"""Opens the model that is to be explained: a checkpoint, or a fold of a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.batching import in_pieces
from featurestore.embedders.enformer.edits import tracks_of
from featurestore.embedders.enformer.modeling import Enformer
from featurestore.embedders.enformer.track_model import Track, TrackModel
from featurestore.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

Codes = NDArray[np.uint8]


class WindowModel(Protocol):
    """What is explained: windows of base codes to tracks. :class:`TrackModel` is one."""

    module: Any
    digest: str
    tracks: tuple[Track, ...]

    @property
    def input_bp(self) -> int:
        """Bases of a window."""

    @property
    def bin_bp(self) -> int:
        """Bases of a bin."""

    @property
    def bins(self) -> int:
        """Bins that are predicted, in the middle of a window."""

    def predict(self, codes: Codes) -> NDArray[np.float32]:
        """Tracks of codes (n, length), shape (n, bins, tracks)."""
        ...

    def of(self, x: Tensor) -> Tensor:
        """The same of one-hot windows (n, length, 4), with gradients."""
        ...


class ExpressionModel:
    """A network of expression in the dress of a model of tracks: one bin, a track for each target.

    Parameters
    ----------
    network : ExpressionNetwork
    targets : sequence of str
    mean, deviation : float arrays, shape (targets,)
        What predictions are brought back to the unit of the targets by.
    """

    def __init__(
        self, network: Any, targets: Sequence[str], mean: NDArray[np.float64],
        deviation: NDArray[np.float64], digest: str = "", batch: int = 1,
    ) -> None:  # fmt: skip
        import torch

        self.network, self.module = network.eval(), network.enformer
        self.digest, self.batch = digest, batch
        self.tracks = tuple(Track("expression", i, name) for i, name in enumerate(targets))
        self._scale = [torch.as_tensor(a, dtype=torch.float32) for a in (mean, deviation)]

    @property
    def input_bp(self) -> int:
        """Bases of a window."""
        return int(self.module.config.input_bp)

    @property
    def bin_bp(self) -> int:
        """Bases of a bin of the network."""
        return int(self.module.config.bin_bp)

    @property
    def bins(self) -> int:
        """One: the TSS."""
        return 1

    def chosen(self, names: Sequence[str] = (), heads: Sequence[str] = ()) -> ExpressionModel:
        """The same model giving out some targets; it has one head, which stands for every species."""
        for name in names:
            if not any(name in (t.name, t.label) for t in self.tracks):
                raise unknown_name("target", name, [t.name for t in self.tracks])
        made = ExpressionModel(self.network, [], np.zeros(0), np.zeros(0), self.digest, self.batch)
        made._scale = self._scale
        made.tracks = tuple(
            t for t in self.tracks if not names or t.name in names or t.label in names
        )
        return made

    def predict(self, codes: Codes) -> NDArray[np.float32]:
        """Targets of windows, shape (n, 1, targets)."""
        found: NDArray[np.float32] = in_pieces(self._run, codes, self.batch)["tracks"]
        return found

    def _run(self, codes: Codes) -> dict[str, NDArray[np.float32]]:
        import torch

        with torch.no_grad():
            return {"tracks": self.of(self.module.one_hot(codes)).cpu().numpy()}

    def of(self, x: Tensor) -> Tensor:
        """Targets of one-hot windows (n, length, 4), shape (n, 1, targets)."""
        return self._chosen(self.network.of(x))

    def of_convolved(self, bins: Tensor) -> NDArray[np.float32]:
        """Targets of one window from its convolutions, shape (1, targets)."""
        from learners.enformer.networks import at_tss

        pooled = at_tss(self.module.prepared().embedded(bins)[None])
        found: NDArray[np.float32] = self._chosen(self.network.head(pooled))[0].cpu().numpy()
        return found

    def _chosen(self, scores: Tensor) -> Tensor:
        mean, deviation = (a.to(scores.device) for a in self._scale)
        whole = scores.float() * deviation + mean
        return whole[:, None, [t.index for t in self.tracks]]


@dataclass(frozen=True)
class Opened:
    """A model and where it came from.

    Parameters
    ----------
    model : TrackModel or ExpressionModel
    run : Path, optional
        Of the trained run; None for a checkpoint.
    repeat, fold : int
        Of the run.
    unit : str
        ``log2(1+signal)`` where values are compared as logarithms; the unit of the targets of a
        model of expression.
    """

    model: TrackModel | ExpressionModel
    run: Path | None = None
    repeat: int = 0
    fold: int = -1
    unit: str = "log2(1+signal)"

    def facts(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "digest": self.model.digest, "run": None if self.run is None else self.run.name,
            "fold": self.fold if self.run else None, "input_bp": self.model.input_bp,
            "bin_bp": self.model.bin_bp, "dtype": self.model.module.dtype,
        }  # fmt: skip


def open_model(
    path: str | Path, fold: int | None = None, *, device: str | None = None, dtype: str = "fp32",
    batch: int = 1,
) -> Opened:  # fmt: skip
    """A checkpoint folder, a hub id, or the model of a fold of a trained run.

    Parameters
    ----------
    path : str or Path
        Folder of a checkpoint, hub id, folder of a run (or of runs that holds one) of learner
        ``enformer`` on task ``tracks`` or ``expression``.
    fold : int, optional
        Of a run; needed where it has several.

    Raises
    ------
    InputError
        If there is no such model, or it is not told which.
    """
    folder = Path(path)
    run = _run_folder(folder)
    if run is None:
        if fold is not None:
            raise InputError(f"--fold {fold} goes with a trained run; {path} is a checkpoint")
        inner = folder / "enformer"
        place = inner if (inner / "config.json").is_file() else path
        return Opened(TrackModel.open(place, device=device, dtype=dtype, batch=batch))
    repeat, number, own = _fold_folder(run, fold)
    if not (own / "enformer" / "config.json").is_file():
        raise InputError(
            f"{run}: its learner saves no checkpoint (model/{repeat}-{number}/enformer); contributions "
            "need a run of learner enformer"
        )
    from benchmarks.runs.files import read_run

    identity = read_run(run).identity
    if identity.get("task") == "tracks":
        model = TrackModel.open(own / "enformer", device=device, dtype=dtype, batch=batch)
        return Opened(model, run, repeat, number)
    found = _expression(run, number, own, device, dtype, batch)
    return Opened(found, run, repeat, number, str(identity.get("unit") or ""))


def _run_folder(folder: Path) -> Path | None:
    if not folder.is_dir() or (folder / "config.json").is_file():
        return None
    if (folder / "run.json").is_file():
        return folder
    found = sorted(p.parent for p in folder.glob("*/run.json"))
    if len(found) > 1:
        some = "\n".join(f"    {one}" for one in found[:10])
        raise InputError(f"{folder}: holds {len(found)} runs; name one of them:\n{some}")
    return found[0] if found else None


def _fold_folder(run: Path, fold: int | None) -> tuple[int, int, Path]:
    found: dict[int, tuple[int, int, Path]] = {}
    for folder in sorted((run / "model").glob("*-*")):
        repeat, _, number = folder.name.partition("-")
        if repeat.isdigit() and number.isdigit():
            found.setdefault(int(number), (int(repeat), int(number), folder))
    if not found:
        raise InputError(f"{run}: holds no model; run it again")
    if fold is None and len(found) > 1:
        raise InputError(
            f"{run}: has models of folds {', '.join(map(str, sorted(found)))}: say which with --fold"
        )
    if fold is not None and fold not in found:
        raise InputError(f"{run}: no model of fold {fold}; it has {sorted(found)}")
    return found[next(iter(found)) if fold is None else fold]


def _expression(
    run: Path, fold: int, folder: Path, device: str | None, dtype: str, batch: int
) -> ExpressionModel:
    from benchmarks.predict.trained import TrainedRun
    from featurestore.embedders.checkpoint import find_checkpoint

    trained = TrainedRun(run)
    learner: Any = trained.learner(fold)
    network: nn.Module = learner._network
    if device:
        network.to(device)
    scale = learner._scale
    digest = find_checkpoint(str(folder / "enformer")).digest()
    made = ExpressionModel(network, trained.targets, scale.mean, scale.deviation, digest, batch)
    made.module.dtype = dtype
    return made


def for_species(
    model: WindowModel, species: str, tracks: Sequence[str] = (), heads: Sequence[str] = ()
) -> Any:
    """The model giving out the tracks that are meant, of the heads that stand for a species.

    Parameters
    ----------
    tracks, heads : sequence of str
        All tracks; the species' heads unless told.

    Raises
    ------
    InputError
        For an unknown name, and where no head stands for the species.
    """
    from featurestore.score.tracks.model import heads_of

    if isinstance(model, ExpressionModel):
        return model.chosen(tracks)
    if not isinstance(model, TrackModel):
        return model
    own = list(heads) or heads_of(model.module.config, species)
    return model.chosen(tracks, own)


def tss_bins(model: WindowModel) -> slice:
    """The bin of the first transcribed base of a window around a TSS, and its neighbours.

    Bins 447 to 449 of the published model's 896.
    """
    middle = model.bins // 2
    return slice(max(middle - 1, 0), min(middle + 2, model.bins))


def of_convolved(model: WindowModel, bins: Tensor, wanted: slice) -> NDArray[np.float32]:
    """Tracks of some predicted bins of one window from its convolutions, shape (bins, tracks)."""
    if isinstance(model, ExpressionModel):
        return model.of_convolved(bins)
    assert isinstance(model, TrackModel)  # noqa: S101 - patched() says so
    return tracks_of(model, bins, wanted)


def patched(model: WindowModel) -> bool:
    """Whether windows that differ in a few bases can share their convolutions."""
    return isinstance(model, TrackModel | ExpressionModel) and isinstance(model.module, Enformer)
