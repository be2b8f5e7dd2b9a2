"""Enformer: configuration, model and embedder, in plain torch.

Names are imported when first used: listing embedders must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.embedders.enformer.configuration import EnformerConfig
    from featurestore.embedders.enformer.modeling import Enformer
    from featurestore.embedders.enformer.track_model import TrackModel

__all__ = ["Enformer", "EnformerConfig", "TrackModel"]

_MODULES = {
    "EnformerConfig": "configuration",
    "Enformer": "modeling",
    "TrackModel": "track_model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
