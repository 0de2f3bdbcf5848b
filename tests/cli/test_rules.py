import pytest

from trivium.cli import main

BAD = [
    ("logistic d --design sequential -w 2", "--workers 2: the sequential design is one process"),
    ("logistic d --design ps -w 2 --threads 2", "--threads 2: workers of ps have one thread each: raise --workers"),
    ("logistic d --design allreduce --threads 4", "only --design sequential has threads"),
    ("logistic d --design sequential --shards 2", "--shards 2: the sequential design does not cut the parameters"),
    ("mlp:64 d --batch-size 64 --batch-per-worker 32", "--batch-per-worker 32: --batch-size 64 already says it"),
    ("logistic d --batch-size 64", "--batch-size 64: lbfgs reads all rows at every step"),
    ("mlp:64 d --optimizer owlqn --batch 64", "owlqn reads all rows"),
    ("logistic d --batch-per-worker 64", "--batch-per-worker 64: lbfgs reads all rows"),
    ("logistic d --lr 0.1", "--lr 0.1: lbfgs finds its own step length"),
    ("mlp:64 d --optimizer adam --tol 1e-3", "--tol 0.001: adam has no test of its own, lbfgs and owlqn have"),
    ("mlp:64 d --tol 1e-3", "adam has no test of its own"),
    ("logistic d --optimizer lbfgs --l1 0.1", "--l1 0.1: lbfgs needs a smooth objective; --optimizer owlqn"),
    ("logistic d --patience 3", "--patience 3: there are no validation rows to watch; add --valid 0.1"),
    ("mlp:64 d --valid 0 --patience 3", "no validation rows"),
    ("mlp:64 d --every 4", "--every 4: gradients are summed at each step; only --combine model"),
    ("logistic d --combine model --every 4", "--combine model: lbfgs steps for all workers at once"),
    ("logistic d --design pss", "unknown design 'pss' (did you mean 'ps'?)"),
    ("logistic d --design ps --consistency aps", "unknown consistency 'aps' (did you mean 'asp'?)"),
    ("logistic d --design ps --consistency asp", "--consistency asp: lbfgs needs whole sums of fresh gradients"),
    ("mlp:64 d --nodes two", "'two' is not a whole number"),
    ("mlp:64 d --copies 0", "0 is too small; it must be 1 or more"),
    ("logistic d --combine product", "unknown combine 'product'"),
    ("mlp:64 d --optimizer adamm", "unknown optimizer 'adamm' (did you mean 'adam'?)"),
    (
        "logistic d --design ps -w 9",
        "--workers 9 is more than --lanes 8; a lane is the least unit of work: raise --lanes",
    ),
    ("logistic d --valid 1.5", "--valid 1.5: a share of the rows lies between 0 and 1"),
    ("logistic d --epochs 0", "'--epochs': 0 is too small; it must be 1 or more"),
    ("logistic d --max-time nan", "nan is not finite"),
    ("logistic d --workers two", "'two' is not a whole number"),
    ("logistic d --wrokers 2", "No such option: --wrokers"),
    ("logistic", "Missing argument 'DATA'"),
    ("logistic d -w 2 --threads 2", "--threads 2: one process has threads (--design sequential)"),
    ("logistic d --format libsvm --label y", "--label y: rows of libsvm have no named columns; those of csv, tsv"),
    ("logistic sklearn:digits --weight w", "--weight w: rows of sklearn have no named columns"),
    ("logistic d --format idx --types a=float", "--types a=float: rows of idx have no named columns"),
    ("logistic d --format parquet --missing NA", "--missing NA: parquet says itself what is missing; csv and tsv"),
    ("logistic d --format csv --features 9", "--features 9: csv shows all its features in each row; only libsvm"),
    ("logistic d --types age", "'age' is not COLUMN=KIND; write age=float"),
    ("logistic d --memory-per-worker lots", "'lots' is not a size; write 2G, 500M"),
    ("logistic d --memory-per-worker 0", "it must be 1 byte or more"),
    ("logistic d --regression", "--regression: logistic separates classes; linear, mlp and fm learn numbers"),
    ("logistic d --metric rmse", "metric rmse needs numbers, the model predicts probabilities"),
    ("logistic d --metric auc,acuracy", "unknown metric 'acuracy' (did you mean 'accuracy'?)"),
    ("logistic d --max-bad-rows -1", "it must be 0 or more"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_what_cannot_be_used_is_one_clear_error(session, capsys, tmp_path, line, message):
    assert main(["train", *line.split()]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert session.jobs == []
    assert list(tmp_path.iterdir()) == []


GOOD = [
    "logistic d --design sequential -w 1",
    "logistic d --design ps -w 2 --threads 1",
    "logistic d --batch-size full",
    "logistic d --optimizer adam --lr 0.01 --batch-size 32 --patience 2 --valid 0.2",
    "logistic d --l1 0.1",
    "mlp:64 d --patience 0 --valid 0",
    "mlp:64 d --combine model --every 4 --design ps -w 2 --shards 2 --pin",
    "mlp:64 d --optimizer lbfgs --tol 1e-6",
    "logistic d -w 2",
    "logistic d --threads 2",
    "logistic d --label y --weight w --types a=float,b=category --missing NA,? --prep log1p --format csv",
    "logistic d --max-bad-rows 3 --dtype float64 --no-cache",
    "logistic d --memory-per-worker 2G -w 2",
    "mlp:64 d --batch-per-worker 16 -w 2",
    "mlp:64 d --consistency ssp:3 -w 2 --no-balance",
    "mlp:64 d --consistency essp:0 --reproducible -w 2 --balance",
    "logistic d --consistency ssp:0 -w 2",
    "mlp:64 d --consistency backup:1",
    "mlp:64 d -w 4 --nodes 2 --copies 2 --filter key-cache,int8 --bandwidth 100Mbit",
    "mlp:64 d -w 2 --inject slow:worker1:x4 --inject slow:each:x4@0.1",
]


@pytest.mark.parametrize("line", GOOD)
def test_what_can_be_used_is(session, capsys, line):
    assert main(["train", *line.split(), "--quiet"]) == 0, capsys.readouterr().err
    assert len(session.jobs) == 1
