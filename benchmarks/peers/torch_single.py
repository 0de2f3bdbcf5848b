"""PyTorch, one process: samples a second of mlp:500 on MNIST.

Run: ``.venv-torch/bin/python -m benchmarks.peers.torch_single [threads2-256 …]``
"""

from __future__ import annotations

import torch

from benchmarks import measure
from benchmarks.peers.torch_net import network, stepper

CASES = {"threads2-256": (2, 256), "threads2-1024": (2, 1024), "threads1-256": (1, 256), "threads1-128": (1, 128)}


def main() -> None:
    """Time each case after the other."""
    cases: measure.Cases = {}
    for case, (threads, batch) in CASES.items():
        if measure.wanted(case):
            torch.set_num_threads(threads)
            step = stepper(network(), 0, 1, batch)
            cases[case] = {"value": measure.rate(step, batch), "unit": "samples/s"}
    measure.emit("torch", torch.__version__, cases)


if __name__ == "__main__":
    main()
