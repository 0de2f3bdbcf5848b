"""JAX and Optax, one process of two threads: samples a second of mlp:500 on MNIST, Adam 1e-3.

The plain way, as its users write it: one jitted step that takes the gathered rows, parameters and state donated. XLA
takes its number of threads from the cores it may use. Run: ``.venv/bin/python -m benchmarks.peers.jax_single [256 …]``
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import measure, workloads


def stepper(batch: int) -> Callable[[], None]:
    """One step on the next ``batch`` shuffled rows; float32 pixels are made before the clock starts."""
    import jax
    import jax.numpy as jnp
    import optax

    pixels, digits = workloads.mnist()
    x = pixels.astype(np.float32) / 255
    keys = jax.random.split(jax.random.key(0))
    params: Any = {
        "w1": jax.random.normal(keys[0], (784, 500)) * np.sqrt(2 / 784),
        "b1": jnp.zeros(500),
        "w2": jax.random.normal(keys[1], (500, 10)) * np.sqrt(2 / 500),
        "b2": jnp.zeros(10),
    }
    adam = optax.adam(1e-3)
    state: Any = adam.init(params)

    def loss(params: Any, x: Any, y: Any) -> Any:
        hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
        scores = hidden @ params["w2"] + params["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

    def update(params: Any, state: Any, x: Any, y: Any) -> Any:
        change, state = adam.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, change), state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    rng = np.random.default_rng(0)
    order, at = rng.permutation(len(x)), 0

    def step() -> None:
        nonlocal params, state, order, at
        if at + batch > len(x):
            order, at = rng.permutation(len(x)), 0
        rows = order[at : at + batch]
        at += batch
        params, state = compiled(params, state, x[rows], digits[rows])
        params["b2"].block_until_ready()

    return step


def main() -> None:
    """Time each batch size after the other."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    cores = len(os.sched_getaffinity(0))
    cases: measure.Cases = {}
    for batch in (256, 1024):
        case = f"threads{cores}-{batch}"
        if measure.wanted(case):
            cases[case] = {"value": measure.rate(stepper(batch), batch), "unit": "samples/s"}
    measure.emit("jax", jax.__version__, cases)


if __name__ == "__main__":
    main()
