"""A convolutional network in JAX, trained by any design: MNIST to 99.2 % in about two minutes on two cores.

    python examples/cnn.py mnist/ --design ps                      # or sequential, allreduce
    trivium train examples/cnn.py:program mnist/ --design ps

``mnist/`` has the four IDX files (train-images-idx3-ubyte.gz and so on). Expect 99.2 % or more of the test images after
five epochs, by every design: a step is 128 images whatever the number of workers, so the designs learn the same and
differ in time alone.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp

import trivium as tv

Params = dict[str, Any]
Batch = dict[str, Any]

BATCH, EPOCHS, IMAGES = 128, 5, 60_000
SHAPES = {"conv1": (5, 5, 1, 16), "conv2": (3, 3, 16, 32), "dense": (7 * 7 * 32, 96), "out": (96, 10)}


def init(key: Any) -> Params:
    """He's normal weights, and a bias for each output."""
    params = {}
    for name, shape in SHAPES.items():
        key, own = jax.random.split(key)
        fan_in = jnp.prod(jnp.array(shape[:-1]))
        params[name] = jax.random.normal(own, shape) * jnp.sqrt(2.0 / fan_in)
        params[f"{name}_bias"] = jnp.zeros(shape[-1])
    return params


def layer(x: Any, params: Params, name: str) -> Any:
    """Convolution 3×3, bias, relu, and the largest of each 2×2."""
    x = jax.lax.conv_general_dilated(x, params[name], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    rows, height, width, channels = x.shape
    x = x.reshape(rows, height // 2, 2, width // 2, 2, channels).max((2, 4))  # before bias and relu: the same, sooner
    return jax.nn.relu(x + params[f"{name}_bias"])


def logits(params: Params, batch: Batch) -> Any:
    """(rows, 10) of images (rows, 28, 28), pixels from 0 to 1."""
    x = batch["x"].reshape(-1, 28, 28, 1)
    x = layer(layer(x, params, "conv1"), params, "conv2").reshape(len(x), -1)
    x = jax.nn.relu(x @ params["dense"] + params["dense_bias"])
    return x @ params["out"] + params["out_bias"]


def loss(params: Params, batch: Batch, key: Any) -> Any:  # noqa: ARG001  nothing is random
    """Cross entropy of each row, and whether it is answered rightly."""
    found, y = logits(params, batch), batch["y"]
    right = jnp.arange(10) == y[:, None]
    return jax.nn.logsumexp(found, 1) - jnp.where(right, found, 0).sum(1), {"correct": found.argmax(1) == y}


def predict(params: Params, batch: Batch) -> Any:
    """Probabilities (rows, 10)."""
    return jax.nn.softmax(logits(params, batch))


def make(epochs: int = EPOCHS, images: int = IMAGES) -> tv.Program:
    """The program; its rate falls to 0 over ``epochs`` passes over ``images``."""
    return tv.Program.from_loss(
        init,
        loss,
        tv.optim.adamw(tv.optim.Cosine(4e-3, clocks=epochs * images // BATCH), weight_decay=1e-2),
        per_row=True,
        predict=predict,
        free=tuple(f"{name}_bias" for name in SHAPES),
        batch_size=BATCH,
        epochs=epochs,
        name="cnn",
    )


program = make()


def main() -> None:
    """Train, and say how many test images are answered rightly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="mnist", help="folder with the four IDX files")
    parser.add_argument("--design", default="auto", choices=("auto", "sequential", "allreduce", "ps"))
    parser.add_argument("--workers", type=int, help="of ps and allreduce (default: one a core)")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", help="run directory (default: runs/…)")
    asked = parser.parse_args()
    data, test = tv.read(asked.data), tv.read(asked.data, part="test")
    plan = tv.Plan(asked.design, workers=asked.workers)
    run = tv.train(make(asked.epochs, len(data)), data, test=test, plan=plan, out=asked.out)
    record = run.record
    print(f"{record.design}: {record.test_accuracy:.2%} of {len(test):,} test images right,", end=" ")
    print(f"{record.samples_per_second:,.0f} images/s, {record.seconds:.0f} s; {run.path}")


if __name__ == "__main__":
    main()
