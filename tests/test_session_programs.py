"""Perceptrons by the BLAS and factorization machines on real processes: the same bits for any number of workers."""

from dataclasses import replace

import numpy as np
import pytest

from trivium.data.table import Csr, Table
from trivium.plan import Plan, Stopping
from trivium.program.fm import FM
from trivium.program.mlp import Mlp
from trivium.program.optimizers.adam import Adam
from trivium.running.job import Job


def rows(sparse):
    stream = np.random.default_rng(0)
    x = stream.normal(size=(500, 12)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    if sparse:
        x = Csr(np.arange(501) * 12, np.tile(np.arange(12, dtype=np.int32), 500), x.reshape(-1), 12)
    return Table({"x": x, "y": y}, ("no", "yes"))


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("program", "optimizer"),
    [(Mlp((16,), backend="blas", outputs="logistic"), Adam(1e-2)), (FM(4), None)],
    ids=["mlp", "fm"],
)
def test_same_bits_and_it_learns_products(warm, tmp_path, program, optimizer, sparse):
    table, stopping = rows(sparse), Stopping(epochs=40, patience=40)
    records = []
    for workers in (1, 2):
        plan = Plan("ps", workers=workers, reproducible=True)
        job = Job(program, table, plan, tmp_path / str(workers), optimizer=optimizer, batch_size=32, stopping=stopping)
        records.append(warm.run(replace(job, valid=0.2)))
    assert records[0].params_sha256 == records[1].params_sha256
    assert records[0].train_accuracy > 0.8
