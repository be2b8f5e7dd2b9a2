"""PlantCaduceus by its description, step by step in float64 numpy: no folding, nothing shared.

Written from the description of the original alone: both strands beside each other in the channels,
the halves exchanged in front of each layer in its fused form, flips at run time, the two directions
each with its own projections, one loop over positions. Slow, for small models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensors = Mapping[str, Any]


def _flip(x: Array) -> Array:
    """Positions and channels reversed."""
    return x[:, ::-1, ::-1]


def _silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def _rms(x: Array, weight: Array, epsilon: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight


def _causal_convolution(x: Array, weight: Array, bias: Array) -> Array:
    """Depthwise; ``weight`` (channels, 1, width), the last tap on the position itself."""
    width = weight.shape[2]
    out = np.zeros_like(x) + bias
    for tap in range(width):
        back = width - 1 - tap
        shifted = np.zeros_like(x)
        shifted[:, back:] = x[:, : x.shape[1] - back]
        out += shifted * weight[:, 0, tap]
    return out


def mamba1(x: Array, w: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """One direction of the Mamba mixer."""
    inner, gate = np.split(x @ w["in_proj.weight"].T, 2, axis=-1)
    u = _silu(_causal_convolution(inner, w["conv1d.weight"], w["conv1d.bias"]))
    states, rank = w["A_log"].shape[1], w["dt_proj.weight"].shape[1]
    step, b, c = np.split(u @ w["x_proj.weight"].T, [rank, rank + states], axis=-1)
    delta = _softplus(step @ w["dt_proj.weight"].T + w["dt_proj.bias"])
    a = -np.exp(w["A_log"])
    state = np.zeros((x.shape[0], u.shape[2], states))
    rows = []
    for t in range(x.shape[1]):
        state = np.exp(delta[:, t, :, None] * a) * state
        state = state + delta[:, t, :, None] * b[:, t, None, :] * u[:, t, :, None]
        rows.append((state * c[:, t, None, :]).sum(-1))
    y = np.stack(rows, axis=1) + w["D"] * u
    return (y * _silu(gate)) @ w["out_proj.weight"].T


def mamba2(x: Array, w: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """One direction of the Mamba-2 mixer: one decay per head, the gate inside the norm."""
    ssm = config["ssm_cfg"]
    heads, inner = len(w["A_log"]), w["out_proj.weight"].shape[1]
    states, groups = ssm["d_state"], ssm.get("ngroups", 1)
    mixed = inner + 2 * groups * states
    gate, xbc, step = np.split(x @ w["in_proj.weight"].T, [inner, inner + mixed], axis=-1)
    xbc = _silu(_causal_convolution(xbc, w["conv1d.weight"], w["conv1d.bias"]))
    u, b, c = np.split(xbc, [inner, inner + groups * states], axis=-1)
    s, length = x.shape[:2]
    u = u.reshape(s, length, heads, inner // heads)
    b, c = (
        np.repeat(v.reshape(s, length, groups, states), heads // groups, axis=2) for v in (b, c)
    )
    delta = _softplus(step + w["dt_bias"])
    a = -np.exp(w["A_log"])
    state = np.zeros((s, heads, inner // heads, states))
    rows = []
    for t in range(length):
        drive = delta[:, t, :, None, None] * u[:, t, :, :, None] * b[:, t, :, None, :]
        state = np.exp(delta[:, t] * a)[:, :, None, None] * state + drive
        rows.append((state * c[:, t, :, None, :]).sum(-1) + w["D"][:, None] * u[:, t])
    y = np.stack(rows, axis=1).reshape(s, length, inner) * _silu(gate)
    per_group = y.reshape(s, length, groups, inner // groups)
    per_group = per_group / np.sqrt((per_group**2).mean(-1, keepdims=True) + 1e-5)
    return (per_group.reshape(s, length, inner) * w["norm.weight"]) @ w["out_proj.weight"].T


class Oracle:
    """A checkpoint of the original's key layout, all keys there."""

    def __init__(self, config: Mapping[str, Any], tensors: Tensors) -> None:
        self.config = config
        self.w = {k: np.asarray(v, np.float64) for k, v in tensors.items()}
        first = "caduceus.backbone.layers.0.mixer.submodule.mamba_fwd.dt_bias"
        self.mixer = mamba2 if first in self.w else mamba1

    def _below(self, prefix: str) -> dict[str, Array]:
        return {k[len(prefix) :]: v for k, v in self.w.items() if k.startswith(prefix)}

    def _both_directions(self, x: Array, layer: str) -> Array:
        ahead = self.mixer(x, self._below(f"{layer}mixer.submodule.mamba_fwd."), self.config)
        back = self.mixer(
            x[:, ::-1], self._below(f"{layer}mixer.submodule.mamba_rev."), self.config
        )
        return ahead + back[:, ::-1]

    def _norm(self, name: str) -> Array:
        plain = f"caduceus.backbone.{name}.weight"
        return self.w.get(plain, self.w.get(f"caduceus.backbone.{name}.submodule.weight"))

    def __call__(self, ids: NDArray[np.int64]) -> tuple[list[Array], Array]:
        """Input of each layer and the normed output, each (b, l, 2 d), and the logits."""
        complement = np.array([self.config["complement_map"][k] for k in range(8)])
        table = self.w["caduceus.backbone.embeddings.word_embeddings.embedding.weight"]
        d, epsilon = table.shape[1], self.config["norm_epsilon"]
        x = np.concatenate([table[ids], _flip(table[complement[ids][:, ::-1]])], axis=-1)
        residual = np.zeros_like(x)
        hidden = []
        for i in range(self.config["n_layer"]):
            hidden.append(x)
            one, other = slice(None, d), slice(d, None)
            if self.config["fused_add_norm"]:
                one, other = other, one
            ahead = x[..., one] + residual[..., one]
            back = _flip(x[..., other]) + _flip(residual[..., other])
            residual = np.concatenate([ahead, _flip(back)], axis=-1)
            weight = self._norm(f"layers.{i}.norm")
            layer = f"caduceus.backbone.layers.{i}."
            x = np.concatenate(
                [
                    self._both_directions(_rms(ahead, weight, epsilon), layer),
                    _flip(self._both_directions(_rms(back, weight, epsilon), layer)),
                ],
                axis=-1,
            )
        weight = self._norm("norm_f")
        total = x + residual
        ahead = _rms(total[..., :d], weight, epsilon)
        back = _flip(_rms(_flip(total[..., d:]), weight, epsilon))
        hidden.append(np.concatenate([ahead, back], axis=-1))
        return hidden, ahead @ table.T + back[..., ::-1] @ table[complement].T


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """A full state dict in the original's keys, every tensor random and of a telling size."""
    rng = np.random.default_rng(seed)
    d, ssm = config["d_model"], config["ssm_cfg"]
    inner, n, width = int(ssm["expand"] * d), ssm["d_state"], ssm["d_conv"]

    def normal(*shape: int, scale: float = 1.0, around: float = 0.0) -> NDArray[np.float32]:
        return (around + scale * rng.standard_normal(shape)).astype(np.float32)

    def ssm_part() -> dict[str, NDArray[np.float32]]:
        if "d_intermediate" in config:
            heads = inner // ssm.get("headdim", 64)
            mixed = inner + 2 * ssm.get("ngroups", 1) * n
            return {
                "conv1d.weight": normal(mixed, 1, width, scale=0.5),
                "conv1d.bias": normal(mixed, scale=0.1),
                "dt_bias": normal(heads, around=-2), "A_log": normal(heads, scale=0.5, around=0.5),
                "D": normal(heads, around=1), "norm.weight": normal(inner, scale=0.2, around=1),
            }  # fmt: skip
        auto = ssm["dt_rank"] == "auto"
        rank = -(-d // 16) if auto else ssm["dt_rank"]
        return {
            "conv1d.weight": normal(inner, 1, width, scale=0.5),
            "conv1d.bias": normal(inner, scale=0.1),
            "x_proj.weight": normal(rank + 2 * n, inner, scale=inner**-0.5),
            "dt_proj.weight": normal(inner, rank, scale=rank**-0.5),
            "dt_proj.bias": normal(inner, around=-2),
            "A_log": normal(inner, n, scale=0.5, around=0.5), "D": normal(inner, around=1),
        }  # fmt: skip

    backbone = "caduceus.backbone."
    embedding = normal(8, d)
    order = np.array([config["complement_map"][k] for k in range(8)])
    out: dict[str, NDArray[Any]] = {
        f"{backbone}embeddings.word_embeddings.complement_map": order,
        f"{backbone}embeddings.word_embeddings.embedding.weight": embedding,
    }
    for i in range(config["n_layer"]):
        layer = f"{backbone}layers.{i}."
        rows = 2 * inner
        if "d_intermediate" in config:
            rows += 2 * ssm.get("ngroups", 1) * n + inner // ssm.get("headdim", 64)
        projections = {
            "in_proj.weight": normal(rows, d, scale=d**-0.5),
            "out_proj.weight": normal(d, inner, scale=inner**-0.5),
        }
        for way in ("mamba_fwd", "mamba_rev"):
            for key, tensor in (ssm_part() | projections).items():
                out[f"{layer}mixer.submodule.{way}.{key}"] = tensor
        out[f"{layer}norm.weight"] = normal(d, scale=0.2, around=1)
    out[f"{backbone}norm_f.weight"] = normal(d, scale=0.2, around=1)
    out["lm_head.complement_map"] = order
    out["lm_head.lm_head.weight"] = embedding
    return out


def config_of(d_model: int, n_layer: int, **other: Any) -> dict[str, Any]:
    """``config.json`` of a small PlantCaduceus."""
    ssm = {"d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": "auto"}
    return {
        "model_type": "caduceus", "d_model": d_model, "n_layer": n_layer, "vocab_size": 8,
        "norm_epsilon": 1e-5, "fused_add_norm": True, "residual_in_fp32": True, "rcps": True,
        "complement_map": {0: 0, 1: 1, 2: 2, 3: 6, 4: 5, 5: 4, 6: 3, 7: 7},
        "ssm_cfg": ssm | other.pop("ssm", {}),
    } | other  # fmt: skip


def config2_of(d_model: int, n_layer: int, **other: Any) -> dict[str, Any]:
    """``config.json`` of a small PlantCAD2, with the keys of the published one."""
    ssm = {
        "bias": False, "conv_bias": True, "d_conv": 4, "d_state": 64, "dt_init_floor": 1e-4,
        "dt_max": 0.1, "dt_min": 0.001, "expand": 2,
    } | other.pop("ssm", {})  # fmt: skip
    made = config_of(d_model, n_layer, d_intermediate=0, residual_in_fp32=False, **other)
    return made | {"ssm_cfg": ssm}
