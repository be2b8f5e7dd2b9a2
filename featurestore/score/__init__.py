"""Zero-shot variant scores of masked genomic language models: ``fs score``, and the same as a library.

Names are imported when first used, so that listing commands stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.score.api import Variant, VariantScore, score_variants
    from featurestore.score.model import MaskedModel, masked_model
    from featurestore.score.vcf import score_vcf

__all__ = [
    "MaskedModel",
    "Variant",
    "VariantScore",
    "masked_model",
    "score_variants",
    "score_vcf",
]

_MODULES = {
    "MaskedModel": "model",
    "Variant": "api",
    "VariantScore": "api",
    "masked_model": "model",
    "score_variants": "api",
    "score_vcf": "vcf",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
