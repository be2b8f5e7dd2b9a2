"""a2z: chromatin accessibility and DNA methylation of plant DNA, read from the published Keras files.

Names are imported when first used: listing embedders must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.embedders.a2z.embedder import A2ZEmbedder
    from featurestore.embedders.a2z.model import A2Z

__all__ = ["A2Z", "A2ZEmbedder"]

_MODULES = {"A2Z": "model", "A2ZEmbedder": "embedder"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
