"""Writes a whole a2z as Keras 2.6 (the version of the published files) lays it out in HDF5.

Checked against files that TensorFlow 2.6.5 and 2.15.1 wrote: same attributes, same group and weight
names, same ``model_config`` up to initialisers.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

WORD = {"trainable": True, "dtype": "float32"}


def lstm(n: int) -> dict[str, Any]:
    return {
        "name": f"lstm_{n}", **WORD, "return_sequences": False, "return_state": False,
        "go_backwards": False, "stateful": False, "unroll": False, "time_major": False, "units": 320,
        "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True,
        "unit_forget_bias": True, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2,
    }  # fmt: skip


def config(n: int = 3) -> dict[str, Any]:
    """``model_config`` of the n-th such model of a session."""
    shape = [None, 600, 4]
    layers = [
        ("InputLayer", {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": f"conv1d_{n}_input"}),
        ("Conv1D", {"name": f"conv1d_{n}", **WORD, "batch_input_shape": shape, "filters": 320, "kernel_size": [26], "strides": [1], "padding": "valid", "data_format": "channels_last", "dilation_rate": [1], "groups": 1, "activation": "relu", "use_bias": True}),
        ("Dropout", {"name": f"dropout_{2 * n}", **WORD, "rate": 0.2, "noise_shape": None, "seed": None}),
        ("MaxPooling1D", {"name": f"max_pooling1d_{n}", **WORD, "strides": [13], "pool_size": [13], "padding": "valid", "data_format": "channels_last"}),
        ("Bidirectional", {"name": f"bidirectional_{n}", **WORD, "layer": {"class_name": "LSTM", "config": lstm(n)}, "merge_mode": "concat"}),
        ("Dropout", {"name": f"dropout_{2 * n + 1}", **WORD, "rate": 0.5, "noise_shape": None, "seed": None}),
        ("Dense", {"name": f"dense_{2 * n}", **WORD, "units": 925, "activation": "linear", "use_bias": True}),
        ("Dense", {"name": f"dense_{2 * n + 1}", **WORD, "units": 1, "activation": "sigmoid", "use_bias": True}),
    ]  # fmt: skip
    return {
        "class_name": "Sequential",
        "config": {"name": "DanQ", "layers": [{"class_name": k, "config": c} for k, c in layers]},
    }


def functional(sequential: dict[str, Any]) -> dict[str, Any]:
    """The same model in the notation of the functional interface, its layers listed backwards."""
    layers = copy.deepcopy(sequential["config"]["layers"])
    for before, layer in zip([None, *layers], layers, strict=False):
        layer["name"] = layer["config"]["name"]
        layer["inbound_nodes"] = [[[before["name"], 0, 0, {}]]] if before else []
    first, last = layers[0]["name"], layers[-1]["name"]
    body = {"name": "model", "layers": layers[::-1]}
    body |= {"input_layers": [[first, 0, 0]], "output_layers": [[last, 0, 0]]}
    return {"class_name": "Functional", "config": body}


def arrays(seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Random weights under the names of the layers' roles."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        fan = shape[0] if len(shape) == 2 else np.prod(shape[:-1])
        return (rng.standard_normal(shape) * scale / np.sqrt(fan)).astype(np.float32)

    found = {"conv/kernel": draw(26, 4, 320), "conv/bias": draw(1, 320)[0] * 0.1}
    for side in ("forward", "backward"):
        found[f"{side}/kernel"] = draw(320, 1280) * 2
        found[f"{side}/recurrent_kernel"] = draw(320, 1280)
        found[f"{side}/bias"] = draw(1, 1280)[0] * 0.3
    found |= {"dense/kernel": draw(640, 925), "dense/bias": draw(1, 925)[0] * 0.1}
    return found | {"output/kernel": draw(925, 1), "output/bias": draw(1, 1)[0] * 0.1}


def write(
    path: Path,
    weights: dict[str, np.ndarray],
    *,
    described: dict[str, Any] | None = None,
    n: int = 3,
) -> Path:
    """The file of the n-th model of a session."""
    cells = {"forward": f"forward_lstm_{n}/lstm_cell_{3 * n + 1}", "backward": f"backward_lstm_{n}/lstm_cell_{3 * n + 2}"}  # fmt: skip
    members = {
        f"conv1d_{n}": [(f"conv1d_{n}/{k}:0", weights[f"conv/{k}"]) for k in ("kernel", "bias")],
        f"dropout_{2 * n}": [],
        f"max_pooling1d_{n}": [],
        f"bidirectional_{n}": [
            (f"bidirectional_{n}/{cells[side]}/{k}:0", weights[f"{side}/{k}"])
            for side in ("forward", "backward")
            for k in ("kernel", "recurrent_kernel", "bias")
        ],
        f"dropout_{2 * n + 1}": [],
        f"dense_{2 * n}": [(f"dense_{2 * n}/{k}:0", weights[f"dense/{k}"]) for k in ("kernel", "bias")],
        f"dense_{2 * n + 1}": [(f"dense_{2 * n + 1}/{k}:0", weights[f"output/{k}"]) for k in ("kernel", "bias")],
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.6.0"
        file.attrs["model_config"] = json.dumps(described or config(n))
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in members]
        for name, listed in members.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [w.encode() for w, _ in listed] or np.zeros(0)
            for weight, values in listed:
                group.create_dataset(weight, data=values)
    return path
