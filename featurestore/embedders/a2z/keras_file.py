"""Reads a2z's weights from a legacy Keras HDF5 file with ``h5py`` alone.

The file is data: nothing in it is run, and no link in it is followed out of it or elsewhere in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.a2z.architecture import BASES, EMBEDDING, FILTERS, STATE, UNITS, WIDTH
from featurestore.embedders.a2z.keras_config import PUBLISHED, check_config
from featurestore.errors import InputError, InputFileNotFoundError, MissingDependencyError
from featurestore.untrusted import open_file, parse_json

Array = NDArray[np.float32]

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
LARGEST_CONFIG: Final = 1 << 20
"""Characters of ``model_config``; a2z's has five thousand."""
LARGEST_CHUNK: Final = 1 << 24
"""Numbers in one chunk of a dataset; a2z's largest array has 592,000."""
MOST_NAMES: Final = 1000

SHAPES: Final[tuple[dict[str, tuple[int, ...]], ...]] = (
    {"kernel": (WIDTH, BASES, FILTERS), "bias": (FILTERS,)},
    {"kernel": (FILTERS, 4 * UNITS), "recurrent_kernel": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)},
    {"kernel": (STATE, EMBEDDING), "bias": (EMBEDDING,)},
    {"kernel": (EMBEDDING, 1), "bias": (1,)},
)
"""Arrays of the layers that have weights, in Keras's own order; the second has them twice."""


def read_keras(path: str | Path) -> dict[str, Array]:
    """Tensors of a2z by our names (:data:`.architecture.SHAPES`).

    Parameters
    ----------
    path : str or Path
        A whole model as ``model.save("x.h5")`` of Keras 2 writes it.

    Raises
    ------
    InputError
        For a file that is missing, cut, damaged or no HDF5, that holds another architecture or
        another setting, an array of another shape or dtype, or a number that is not finite.
    MissingDependencyError
        Without ``h5py``.
    """
    with _opened(Path(path)) as file:
        _check_backend(file, str(path))
        names = check_config(_config(file, str(path)), str(path))
        layers = _weights(file, names, str(path))
    return _ours(layers)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "Keras files need h5py: pip install 'meristem[models]'"
        ) from error
    try:
        with open_file(path) as raw:
            start = raw.read(len(SIGNATURE))
    except FileNotFoundError:
        raise InputFileNotFoundError(f"{path}: not found; {PUBLISHED}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if start != SIGNATURE:
        zipped = "; a .keras file is a zip: save it as .h5" if start.startswith(b"PK") else ""
        raise InputError(
            f"{path}: is no HDF5 file, it begins with {start!r}{zipped}; fetch it again, {PUBLISHED}"
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (
        OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError,
        OverflowError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{path}: cut or damaged ({path.stat().st_size:,} bytes): {_first_line(error)}; "
            f"fetch it again, {PUBLISHED}"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_backend(file: Any, path: str) -> None:
    backend = file.attrs.get("backend", "tensorflow")
    if backend in ("theano", b"theano"):
        raise InputError(
            f"{path}: was saved with Theano, whose convolutions run their kernels mirrored; save it "
            f"again with TensorFlow; {PUBLISHED}"
        )


def _config(file: Any, path: str) -> Any:
    """``model_config``, parsed."""
    if "model_config" not in file.attrs:
        raise InputError(
            f"{path}: holds no model_config, so its architecture cannot be checked; save the whole model "
            "with model.save('x.h5'), not its weights alone"
        )
    text = file.attrs["model_config"]
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    if not isinstance(text, str) or len(text) > LARGEST_CONFIG:
        raise InputError(f"{path}: model_config is no text, or too long; {PUBLISHED}")
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{path}: model_config is not JSON: {error}; {PUBLISHED}") from error


def _weights(file: Any, names: Sequence[str], path: str) -> list[list[dict[str, Array]]]:
    """Arrays of the four layers; one dict a layer, two (forward, backward) for the LSTM."""
    root = _within(file, "model_weights", path)
    listed = _names(root, "layer_names", path)
    order = list(names)
    if not set(names) <= set(listed):  # then Keras itself goes by order
        order = [n for n in listed if _names(_within(root, n, path), "weight_names", path)]
    if len(order) != len(SHAPES):
        raise InputError(
            f"{path}: {len(order)} layers hold weights ({', '.join(order)}) where a2z has {len(SHAPES)}"
        )
    found = []
    for name, shapes in zip(order, SHAPES, strict=True):
        group = _within(root, name, path)
        weights = _names(group, "weight_names", path)
        copies = 2 if "recurrent_kernel" in shapes else 1
        if len(weights) != copies * len(shapes):
            raise InputError(
                f"{path}: layer {name!r} has {len(weights)} arrays where a2z has {copies * len(shapes)}: "
                f"{', '.join(weights) or 'none'}"
            )
        found.append(
            [
                {kind: _array(group, w, shape, path) for (kind, shape), w in zip(shapes.items(), part, strict=True)}
                for part in _sorted(weights, list(shapes), copies, f"{path}: layer {name!r}")
            ]
        )  # fmt: skip
    return found


def _sorted(weights: list[str], kinds: list[str], copies: int, where: str) -> list[list[str]]:
    """Weight names as (forward, backward) × kinds; by their own words, else by Keras's order."""
    named = {(_direction(w), w.rpartition("/")[2].partition(":")[0]): w for w in weights}
    sides = ["forward", "backward"] if copies == 2 else [next(iter(named))[0]]
    if set(named) == {(side, kind) for side in sides for kind in kinds}:
        return [[named[side, kind] for kind in kinds] for side in sides]
    if {side for side, _ in named} - {""} or {kind for _, kind in named} != set(kinds):
        raise InputError(
            f"{where}: its arrays are {', '.join(weights)}; a2z has {', '.join(kinds)}"
            f"{' of a forward and a backward LSTM' if copies == 2 else ''}; {PUBLISHED}"
        )
    return [weights[i * len(kinds) : (i + 1) * len(kinds)] for i in range(copies)]


def _direction(weight: str) -> str:
    """``forward`` or ``backward`` by the innermost level of a weight's name that says so."""
    for part in reversed(weight.split("/")[:-1]):
        for side in ("forward", "backward"):
            if part.startswith(f"{side}_"):
                return side
    return ""


def _within(group: Any, name: str, path: str) -> Any:
    """A member of a group, by hard links alone."""
    import h5py

    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        where = f"{path}: {group.name.rstrip('/')}/{part}"
        if link is None:
            raise InputError(f"{where} is missing; the file is not whole; {PUBLISHED}")
        if not isinstance(link, h5py.HardLink):
            raise InputError(
                f"{where} is a {type(link).__name__}, which may lead elsewhere and is not followed"
            )
        group = group[part]
    return group


def _names(group: Any, attribute: str, path: str) -> list[str]:
    """An attribute that lists names."""
    where = f"{path}: {group.name} attribute {attribute}"
    if attribute not in group.attrs:
        raise InputError(f"{where} is missing; the file is not whole; {PUBLISHED}")
    if prod(group.attrs.get_id(attribute).shape) > MOST_NAMES:
        raise InputError(f"{where} lists more than {MOST_NAMES} names; {PUBLISHED}")
    values = np.atleast_1d(group.attrs[attribute]).tolist()
    values = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    if not all(isinstance(v, str) for v in values):
        raise InputError(f"{where} holds no names; {PUBLISHED}")
    return values


def _array(group: Any, name: str, shape: tuple[int, ...], path: str) -> Array:
    """One array, its shape and dtype checked before it is read, its values after."""
    import h5py

    dataset = _within(group, name, path)
    where = f"{path}: {getattr(dataset, 'name', name)}"
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{where} is no array; {PUBLISHED}")
    if dataset.shape != shape:
        raise InputError(f"{where} has shape {dataset.shape} where a2z has {shape}; {PUBLISHED}")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize != 4:
        raise InputError(f"{where} is {dataset.dtype} where a2z has float32; {PUBLISHED}")
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where} keeps its values in another file, which is not read")
    if dataset.chunks and prod(dataset.chunks) > LARGEST_CHUNK:
        raise InputError(f"{where} has chunks of {prod(dataset.chunks):,} numbers; {PUBLISHED}")
    values: Array = np.ascontiguousarray(dataset[()], dtype=np.float32)
    if wrong := int((~np.isfinite(values)).sum()):
        raise InputError(f"{where} holds {wrong:,} numbers that are not finite; fetch it again")
    return values


def _ours(layers: list[list[dict[str, Array]]]) -> dict[str, Array]:
    """Keras's layout → torch's: matrices transposed, one bias a gate and the other zero."""
    (conv,), directions, (dense,), (output,) = layers
    found = {"conv.weight": conv["kernel"].transpose(2, 1, 0), "conv.bias": conv["bias"]}
    for suffix, cell in zip(("", "_reverse"), directions, strict=True):
        found[f"lstm.weight_ih_l0{suffix}"] = cell["kernel"].T
        found[f"lstm.weight_hh_l0{suffix}"] = cell["recurrent_kernel"].T
        found[f"lstm.bias_ih_l0{suffix}"] = cell["bias"]
        found[f"lstm.bias_hh_l0{suffix}"] = np.zeros_like(cell["bias"])
    for name, layer in (("dense", dense), ("output", output)):
        found[f"{name}.weight"], found[f"{name}.bias"] = layer["kernel"].T, layer["bias"]
    return {key: np.ascontiguousarray(value) for key, value in found.items()}
