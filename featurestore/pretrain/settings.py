"""Everything that decides a pre-training run, and the shapes that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from featurestore.errors import InputError, unknown_name


@dataclass(frozen=True)
class Settings:
    """A pre-training run.

    Parameters
    ----------
    d_model, n_layer, d_state : int
        Shape of the model.
    window : int
        bp a sequence.
    batch : int
        Windows a step.
    learning_rate : float
        At the top of the schedule.
    warm_up : float
        Share of the run in which the rate rises from 0.
    final_rate : float
        Share of the top rate at the end of the cosine.
    weight_decay : float
        On matrices alone.
    clip : float
        Largest norm of the gradient.
    average : float
        Decay of the moving average of the weights that is saved in the end; 0 saves the last ones.
    repeat_weight : float
        Weight of soft-masked bases in the loss, 1 for all alike.
    held_out : float
        Share of the bases held out, by group.
    seed : int
    whole_contigs : bool
        Of data sets take contigs, not the regions of genes.
    exclude : tuple of str
        Families kept away from both sides.
    """

    d_model: int = 128
    n_layer: int = 6
    d_state: int = 8
    window: int = 512
    batch: int = 16
    learning_rate: float = 3e-3
    warm_up: float = 0.05
    final_rate: float = 0.02
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.995
    repeat_weight: float = 1.0
    held_out: float = 0.05
    seed: int = 0
    whole_contigs: bool = False
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layer", "d_state", "window", "batch"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} = {value}: give a whole number from 1")
        for name in ("learning_rate", "clip"):
            if not (value := getattr(self, name)) > 0:
                raise InputError(f"{name} = {value}: give a number above 0")
        for name in ("warm_up", "final_rate", "average", "repeat_weight"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InputError(f"{name} = {value}: give a number from 0 to 1")

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "exclude": list(self.exclude)}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Settings:
        """The settings that :meth:`as_dict` gave."""
        known = {f.name for f in fields(cls)}
        given: dict[str, Any] = {k: v for k, v in body.items() if k in known}
        return cls(**{**given, "exclude": tuple(given.get("exclude", ()))})


PRESETS: Final[Mapping[str, Settings]] = {
    "tiny": Settings(d_model=32, n_layer=2, window=128, batch=8, average=0.0),
    "nano": Settings(),
    "l20": Settings(d_model=384, n_layer=20, d_state=16, batch=64, learning_rate=1e-3),
}
"""``tiny`` to try the command, ``nano`` for an hour on two cores, ``l20`` the smallest released
shape, for an accelerator."""


def preset(name: str, **changes: Any) -> Settings:
    """Named settings with some of them changed; None leaves one as it is."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return replace(PRESETS[name], **{k: v for k, v in changes.items() if v is not None})
