"""The TensorFlow side of :mod:`benchmarks.perf.a2z`; imports TensorFlow alone, runs under any Python.

Builds the architecture as ``build_DanQ`` of twrightsman/a2z-regulatory does, saves it, then answers
each line on its input (``predict`` or ``graph``) with the wall and processor time of all batches.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    """Serve until the input ends."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np
    import tensorflow as tf  # type: ignore[import-untyped, import-not-found, unused-ignore]

    folder, threads, batch, batches = sys.argv[1], *map(int, sys.argv[2:5])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.keras.utils.set_random_seed(0)
    kl = tf.keras.layers
    model = tf.keras.Sequential(
        [
            kl.Conv1D(320, 26, activation="relu", input_shape=(600, 4)), kl.Dropout(0.2),
            kl.MaxPool1D(13, 13), kl.Bidirectional(kl.LSTM(320)), kl.Dropout(0.5), kl.Dense(925),
            kl.Dense(1, activation="sigmoid"),
        ],
        name="DanQ",
    )  # fmt: skip
    model.save(os.path.join(folder, "model.h5"))
    both = tf.keras.Model(model.inputs, [model.layers[-2].output, model.layers[-1].output])
    codes = np.random.default_rng(1).integers(0, 4, (batches * batch, 600))
    x = np.eye(4, dtype=np.float32)[codes]
    embedding, probability = both.predict(x[:batch], verbose=0)
    np.savez(
        os.path.join(folder, "io.npz"), x=x[:batch], embedding=embedding, probability=probability
    )
    graph = tf.function(lambda part: both(part, training=False))
    ways = {
        "predict": lambda: both.predict(x, batch_size=batch, verbose=0),
        "graph": lambda: [graph(tf.constant(x[i : i + batch])) for i in range(0, len(x), batch)],
    }
    print(tf.__version__, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        ways[line.strip()]()  # type: ignore[no-untyped-call, unused-ignore]
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main()
