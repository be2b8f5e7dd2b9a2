"""Brings the keys of a checkpoint to one layout, and checks what the original ties.

Accepted: keys with and without ``caduceus.`` in front; tied tensors all there, or their copies
dropped; the norms of both layouts (``norm.weight``, ``norm.submodule.weight``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from featurestore.errors import InputError

PREFIX: Final = "caduceus."
EMBEDDING: Final = "caduceus.backbone.embeddings.word_embeddings.embedding.weight"
HEAD: Final = "lm_head.lm_head.weight"
_TIED: Final = re.compile(r"(.*\.)mamba_rev\.((?:in|out)_proj\.weight)")


def _plain(key: str) -> str:
    key = key if key.startswith((PREFIX, "lm_head.")) else PREFIX + key
    return re.sub(r"\.(norm|norm_f)\.submodule\.weight$", r".\1.weight", key)


def canonical(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint by the model's own keys, each tied one once.

    Parameters
    ----------
    tensors : mapping of key to tensor
    where : str
        The file, for messages.

    Raises
    ------
    InputError
        Where tied tensors differ, or two keys mean the same tensor, or the copy that is there
        has no original.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        plain = _plain(key)
        if plain in found:
            raise InputError(f"{where}: {key!r} is there twice, with and without a prefix")
        found[plain] = tensor
    for key in [k for k in found if _TIED.fullmatch(k)]:
        match = _TIED.fullmatch(key)
        assert match is not None  # noqa: S101 # selected by the same pattern
        _untie(found, key, f"{match[1]}mamba_fwd.{match[2]}", where)
    if HEAD in found:
        _untie(found, HEAD, EMBEDDING, where)
    for key in [k for k in found if k.endswith("complement_map")]:
        del found[key]  # follows from the configuration, which is checked
    return found


def _untie(found: dict[str, Tensor], copy: str, original: str, where: str) -> None:
    if original not in found:
        raise InputError(
            f"{where}: holds {copy!r} but not {original!r}, which it is tied to; the file was cut or "
            "converted badly: fetch the published one"
        )
    one, other = found.pop(copy), found[original]
    if one.shape != other.shape or not torch.equal(one, other):
        difference = (
            f"largest difference {float((one.float() - other.float()).abs().max()):.3g}"
            if one.shape == other.shape
            else f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
        )
        raise InputError(
            f"{where}: {copy!r} and {original!r} are tied in the model but differ ({difference}); a "
            "loader that breaks ties wrote this file: fetch the published one"
        )


def check_complete(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Refuse a checkpoint that lacks a tensor, holds one too many, or one of another shape."""
    missing = sorted(set(wanted) - set(found))
    surplus = sorted(set(found) - set(wanted))
    shapes = [
        f"{k}: {tuple(found[k].shape)} where config.json says {tuple(wanted[k].shape)}"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ]
    said = [
        f"{len(names)} tensors {word}, first {names[:3]}"
        for names, word in ((missing, "are missing"), (surplus, "have no place"))
        if names
    ] + shapes[:3]
    if said:
        raise InputError(f"{where}: does not fit its config.json: {'; '.join(said)}")
    odd = [k for k, v in found.items() if not v.is_floating_point() or not bool(v.isfinite().all())]
    if odd:
        raise InputError(f"{where}: not finite numbers in {odd[:3]}")
