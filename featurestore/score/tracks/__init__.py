"""Scores of variants by models that predict tracks: ``fs score --embedder enformer``, and as a library."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.score.tracks.numbers import score
    from featurestore.score.tracks.read import TrackScores, read_scores
    from featurestore.score.tracks.run import score_tracks
    from featurestore.score.tracks.settings import Asked

__all__ = ["Asked", "TrackScores", "read_scores", "score", "score_tracks"]

_MODULES = {
    "Asked": "settings",
    "TrackScores": "read",
    "read_scores": "read",
    "score": "numbers",
    "score_tracks": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
