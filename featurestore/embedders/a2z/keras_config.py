"""Asserts from a Keras ``model_config`` that a file holds a2z and nothing that only looks like it.

Every setting that changes numbers is compared. Layer names are free: Keras counts them up over a
session (``dense_2``, ``bidirectional_3``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from featurestore.embedders.a2z.architecture import (
    BASES,
    EMBEDDING,
    FILTERS,
    POOL,
    UNITS,
    WIDTH,
    WINDOW,
)
from featurestore.errors import InputError

Layer = Mapping[str, Any]

SETTINGS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    (
        "Conv1D",
        {
            "filters": FILTERS, "kernel_size": [WIDTH], "strides": [1], "padding": "valid",
            "data_format": "channels_last", "dilation_rate": [1], "groups": 1, "activation": "relu",
            "use_bias": True,
        },
    ),
    (
        "MaxPooling1D",
        {"pool_size": [POOL], "strides": [POOL], "padding": "valid", "data_format": "channels_last"},
    ),
    ("Bidirectional", {"merge_mode": "concat"}),
    ("Dense", {"units": EMBEDDING, "activation": "linear", "use_bias": True}),
    ("Dense", {"units": 1, "activation": "sigmoid", "use_bias": True}),
)  # fmt: skip
"""Class and settings of each layer that computes, in order."""

LSTM: Final[dict[str, Any]] = {
    "units": UNITS, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True,
    "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False,
    "time_major": False,
}  # fmt: skip
"""Settings of the layer inside ``Bidirectional``."""

MAY_BE_ABSENT: Final = {"groups": 1, "data_format": "channels_last", "time_major": False, "return_state": False}  # fmt: skip
"""What Keras versions without a setting compute."""

WITHOUT_EFFECT: Final = ("InputLayer", "Dropout")
"""Layers that compute nothing at prediction."""

ADVICE: Final = {
    "recurrent_activation": "Keras before 2.3 made hard_sigmoid the default, the published files have sigmoid",
    "dtype": "load the model in Keras with float32 layers and save it again",
    "data_format": "build the model with channels_last and save it again",
}
"""What mends a setting; any other needs the published file."""

PUBLISHED: Final = (
    "the published files are model-accessibility-full.h5 and model-methylation-full.h5 of "
    "https://zenodo.org/records/5724562"
)


def check_config(config: Any, path: str) -> list[str]:
    """Names of the four layers that have weights, in order, once all settings are a2z's.

    Parameters
    ----------
    config : object
        ``model_config`` of the file, parsed.
    path : str
        For messages.

    Raises
    ------
    InputError
        Naming the layer, what was found, what belongs there, and what mends it.
    """
    try:
        layers = _in_order(config, path)
        _check_input(config, layers, path)
        working = [layer for layer in layers if layer["class_name"] not in WITHOUT_EFFECT]
        found = [str(layer["class_name"]) for layer in working]
        wanted = [kind for kind, _ in SETTINGS]
        if found != wanted:
            raise InputError(
                f"{path}: its layers are {', '.join(found)}; a2z has {', '.join(wanted)}; {PUBLISHED}"
            )
        for layer, (kind, settings) in zip(working, SETTINGS, strict=True):
            _check_layer(layer["config"], kind, settings, path)
            if kind == "Bidirectional":
                _check_directions(layer["config"], path)
        return [str(w["config"]["name"]) for w in working if w["class_name"] != "MaxPooling1D"]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path}: model_config is not what Keras 2 writes ({type(error).__name__}: {error}); {PUBLISHED}"
        ) from error


def _in_order(config: Any, path: str) -> list[Layer]:
    """The layers, from input to output."""
    kind, body = config["class_name"], config["config"]
    layers: list[Layer] = body if isinstance(body, list) else body["layers"]
    for layer in layers:
        _refuse_code(layer, path)
    if kind == "Sequential":
        return layers
    if kind in ("Functional", "Model"):
        return _chain(layers, body, path)
    raise InputError(f"{path}: holds a {kind} model; a2z is Sequential or Functional; {PUBLISHED}")


def _refuse_code(layer: Any, path: str) -> None:
    """Refuse a layer that carries Python code, wherever it stands inside the description."""
    if isinstance(layer, Mapping):
        if layer.get("class_name") in ("Lambda", "__lambda__"):
            name = layer.get("config", {})
            named = name.get("name", "?") if isinstance(name, Mapping) else "?"
            raise InputError(
                f"{path}: layer {named!r} is a Lambda, which holds code; nothing of a file is ever "
                f"run, and a2z has no such layer; {PUBLISHED}"
            )
        for value in layer.values():
            _refuse_code(value, path)
    elif isinstance(layer, list):
        for value in layer:
            _refuse_code(value, path)


def _chain(layers: Sequence[Layer], body: Mapping[str, Any], path: str) -> list[Layer]:
    """Layers of a Functional model, which must be one chain that ends in its output."""
    by_name = {layer["config"]["name"]: layer for layer in layers}
    after: dict[str, str] = {}
    first: list[str] = []
    for name, layer in by_name.items():
        sources = [s for node in layer["inbound_nodes"] for s in _sources(node, name, path)]
        if len(sources) > 1 or (sources and sources[0] in after):
            raise InputError(f"{path}: layer {name!r} makes the model branch; a2z is one chain")
        if sources:
            after[sources[0]] = name
        else:
            first.append(name)
    order = first[:1]
    while order and order[-1] in after and len(order) <= len(by_name):
        order.append(after[order[-1]])
    outputs = {str(o[0]) for o in _entries(body["output_layers"])}
    if len(order) != len(by_name) or order[-1] not in outputs:
        raise InputError(f"{path}: its layers are not one chain from input to output; {PUBLISHED}")
    return [by_name[name] for name in order]


def _entries(given: Any) -> list[Any]:
    """Keras 3 writes a single ``[name, 0, 0]`` where Keras 2 writes a list of them."""
    return [given] if given and isinstance(given[0], str) else list(given)


def _sources(node: Any, name: str, path: str) -> list[str]:
    """Names of the layers that one call of a layer reads, Keras 2 or Keras 3 notation."""
    if isinstance(node, Mapping):
        tensors = [a["config"]["keras_history"] for a in node["args"]]
        given = [node.get("kwargs", {})]
    else:
        tensors = list(node)
        given = [t[3] for t in tensors if len(t) > 3]
    for settings in given:
        if any(settings.get(k) for k in ("training", "mask", "initial_state")):
            raise InputError(
                f"{path}: layer {name!r} is called with {settings}; a2z calls its layers with their input alone"
            )
    return [str(t[0]) for t in tensors]


def _check_input(config: Layer, layers: Sequence[Layer], path: str) -> None:
    shapes = [
        (str(layer["config"].get("name")), layer["config"][key])
        for layer in layers
        for key in ("batch_input_shape", "batch_shape")
        if layer["config"].get(key) is not None
    ]
    body = config["config"]
    if isinstance(body, Mapping) and body.get("build_input_shape") is not None:
        shapes.append(("model", body["build_input_shape"]))
    if not shapes:
        raise InputError(f"{path}: does not say the shape of its input; save the model once built")
    for name, shape in shapes:
        if list(shape)[1:] != [WINDOW, BASES]:
            raise InputError(
                f"{path}: layer {name!r}: the input is {list(shape)[1:]} where a2z has "
                f"[{WINDOW}, {BASES}]; {PUBLISHED}"
            )


def _check_layer(config: Layer, kind: str, settings: Mapping[str, Any], path: str) -> None:
    name = config["name"]
    found = _dtype(config.get("dtype", "float32"))
    if found != "float32":
        _refuse(path, name, kind, "dtype", found, "float32")
    for key, wanted in settings.items():
        if key not in config and key not in MAY_BE_ABSENT:
            raise InputError(
                f"{path}: layer {name!r} ({kind}) does not say {key}, where a2z has {wanted!r}; "
                f"the file is not of Keras 2; {PUBLISHED}"
            )
        value = _plain(config.get(key, MAY_BE_ABSENT.get(key)), key, wanted)
        if value != wanted or type(value) is not type(wanted):
            _refuse(path, name, kind, key, value, wanted)


def _check_directions(config: Layer, path: str) -> None:
    """The LSTM inside ``Bidirectional``, and the one that reads backwards if it is written out."""
    inner = [(config["layer"], LSTM)]
    if config.get("backward_layer") is not None:
        inner.append((config["backward_layer"], {**LSTM, "go_backwards": True}))
    for layer, settings in inner:
        name = f"{config['name']}/{layer['config']['name']}"
        if layer["class_name"] != "LSTM":
            raise InputError(
                f"{path}: layer {name!r} is a {layer['class_name']} where a2z has an LSTM; {PUBLISHED}"
            )
        _check_layer({**layer["config"], "name": name}, "LSTM", settings, path)


def _dtype(given: Any) -> Any:
    """Name of a dtype or of a dtype policy written out."""
    if isinstance(given, Mapping):
        return given["config"]["name"]
    return given


def _plain(value: Any, key: str, wanted: Any) -> Any:
    if key == "activation" and value is None:
        return "linear"  # Keras's name for none
    if isinstance(wanted, list) and isinstance(value, int) and not isinstance(value, bool):
        return [value]
    return value


def _refuse(path: str, name: str, kind: str, key: str, found: Any, wanted: Any) -> None:
    advice = ADVICE.get(key)
    raise InputError(
        f"{path}: layer {name!r} ({kind}): {key} is {found!r} where a2z has {wanted!r}, which gives "
        f"other numbers; {advice + '; ' if advice else ''}{PUBLISHED}"
    )
