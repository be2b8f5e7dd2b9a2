"""PlantCaduceus: configuration, model, tokenizer and embedder, without remote code or CUDA packages.

Names are imported when first used: ``transformers`` takes seconds to import, and listing
embedders must not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig
    from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
    from featurestore.embedders.plantcaduceus.tokenizer import PlantCaduceusTokenizer

__all__ = ["PlantCaduceusConfig", "PlantCaduceusForMaskedLM", "PlantCaduceusTokenizer"]

_MODULES = {
    "PlantCaduceusConfig": "configuration",
    "PlantCaduceusForMaskedLM": "modeling",
    "PlantCaduceusTokenizer": "tokenizer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
