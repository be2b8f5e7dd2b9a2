"""a2z in float64 by the definitions of its layers in Keras's documentation, step by step."""

from __future__ import annotations

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def last_state(x: np.ndarray, w: dict[str, np.ndarray], side: str) -> np.ndarray:
    """Last hidden state of an LSTM over x, shape (n, steps, 320); gates i, f, c, o."""
    h = c = np.zeros((len(x), 320))
    for step in range(x.shape[1]):
        z = x[:, step] @ w[f"{side}/kernel"] + h @ w[f"{side}/recurrent_kernel"] + w[f"{side}/bias"]
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def a2z(x: np.ndarray, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State (n, 640), embedding (n, 925), probability (n, 1) of one-hot x, shape (n, 600, 4)."""
    w = {k: v.astype(np.float64) for k, v in weights.items()}
    x = x.astype(np.float64)
    neighbours = np.lib.stride_tricks.sliding_window_view(x, 26, axis=1)  # (n, 575, base, 26)
    filtered = np.tensordot(neighbours, w["conv/kernel"], axes=([3, 2], [0, 1]))
    filtered = np.maximum(filtered + w["conv/bias"], 0)
    pooled = np.stack([filtered[:, 13 * p : 13 * p + 13].max(axis=1) for p in range(44)], axis=1)
    state = np.concatenate(
        [last_state(pooled, w, "forward"), last_state(pooled[:, ::-1], w, "backward")], axis=1
    )
    embedding = state @ w["dense/kernel"] + w["dense/bias"]
    return state, embedding, sigmoid(embedding @ w["output/kernel"] + w["output/bias"])
