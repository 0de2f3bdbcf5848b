"""The network and the step that both PyTorch scripts time: 784-500-10, ReLU, cross entropy, Adam 1e-3."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import workloads

__all__ = ["network", "stepper"]


def network() -> torch.nn.Sequential:
    """784-500-10."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(784, 500), torch.nn.ReLU(), torch.nn.Linear(500, 10))


def stepper(model: torch.nn.Module, rank: int, workers: int, batch: int) -> Callable[[], None]:
    """One step on the next ``batch`` of this rank's shuffled rows.

    Pixels are float32 before the clock starts and Adam is the fused one: the most favourable way for the peer.
    """
    pixels, digits = workloads.mnist()
    x = torch.from_numpy(pixels[rank::workers].astype("float32") / 255)
    y = torch.from_numpy(digits[rank::workers].astype("int64"))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    order, at = torch.randperm(len(x)), 0

    def step() -> None:
        nonlocal order, at
        if at + batch > len(x):
            order, at = torch.randperm(len(x)), 0
        rows = order[at : at + batch]
        at += batch
        adam.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        adam.step()

    return step
