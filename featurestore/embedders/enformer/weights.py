"""Brings the keys of an Enformer checkpoint to one layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from featurestore.errors import InputError

_PLACES: Final = {
    "_trunk.1.": "stem.", "_trunk.2.": "conv_tower.", "_trunk.4.": "transformer.",
    "_trunk.6.": "final_pointwise.",
}  # fmt: skip
"""Each tensor of the trunk stands under two names in files of the public port."""

_WRAPPERS: Final = re.compile(r"^(?:(?:module|model|enformer|_orig_mod)\.)+")
_COUNTER: Final = "num_batches_tracked"


def _plain(key: str) -> str:
    key = _WRAPPERS.sub("", key)
    for place, name in _PLACES.items():
        if key.startswith(place):
            return name + key[len(place) :]
    return key


def canonical(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint by the model's own keys, in float32.

    Raises
    ------
    InputError
        Where two keys of one tensor hold different numbers.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        plain = _plain(key)
        if plain.startswith("_trunk."):
            continue  # layers without weights of their own
        value = tensor if plain.endswith(_COUNTER) else tensor.float()
        if plain in found and not _same(found[plain], value):
            raise InputError(
                f"{where}: {key!r} is the same tensor as {plain!r} in this model, and the two differ; "
                "a tool that breaks ties wrote this file: fetch the published one"
            )
        found[plain] = value
    for key in [k for k in found if k.endswith(".running_var")]:
        # Files that were converted from TensorFlow count no batches.
        found.setdefault(key.replace("running_var", _COUNTER), torch.tensor(0))
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def check_complete(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Refuse a checkpoint that lacks a tensor, holds one too many, or one of another shape."""
    missing = sorted(set(wanted) - set(found))
    surplus = sorted(set(found) - set(wanted))
    said = [
        f"{len(names)} tensors {word}, first {names[:3]}"
        for names, word in ((missing, "are missing"), (surplus, "have no place"))
        if names
    ]
    said += [
        f"{k}: {tuple(found[k].shape)} where config.json says {tuple(wanted[k].shape)}"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ][:3]
    if said:
        raise InputError(f"{where}: does not fit its config.json: {'; '.join(said)}")
    odd = [k for k, v in found.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if odd:
        raise InputError(f"{where}: not finite numbers in {odd[:3]}")
