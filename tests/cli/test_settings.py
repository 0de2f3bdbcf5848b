import pytest

from trivium.cli import main


@pytest.fixture
def job_of(session):
    def run(line):
        assert main(["train", *line.split(), "--quiet"]) == 0
        return session.jobs[-1]

    return run


def test_logistic_trains_by_lbfgs_on_the_full_batch(job_of):
    job = job_of("logistic d")
    assert (job.optimizer.name, job.batch_size, job.l2, job.valid) == ("lbfgs", "full", None, None)
    assert vars(job.stopping) == {
        "epochs": None, "max_iter": 1000, "max_time": None, "tol": 1e-6, "target_loss": None, "patience": None,
    }  # fmt: skip
    assert job.optimizer.tol == 1e-6


def test_a_network_trains_by_adam_on_batches(job_of):
    job = job_of("mlp:64 d")
    assert (job.optimizer.name, job.optimizer.lr, job.batch_size, job.valid) == ("adam", 1e-3, 256, 0.1)
    assert (job.stopping.epochs, job.stopping.patience, job.stopping.tol) == (50, 3, None)


def test_a_count_replaces_the_default_count_and_time_comes_on_top(job_of):
    assert (job_of("mlp:64 d --max-iter 7").stopping.epochs, job_of("mlp:64 d --epochs 2").stopping.epochs) == (None, 2)
    job = job_of("mlp:64 d --max-time 5 --target-loss 0.1")
    assert (job.stopping.epochs, job.stopping.max_time, job.stopping.target_loss) == (50, 5.0, 0.1)


def test_l1_takes_owlqn_where_lbfgs_was_the_default(job_of):
    job = job_of("logistic d --l1 0.01 --tol 1e-6")
    assert (job.optimizer.name, job.l1, job.optimizer.tol) == ("owlqn", 0.01, 1e-6)


def test_batch_per_worker_is_the_other_way_to_say_it(job_of):
    assert job_of("mlp:64 d --design ps -w 3 --batch-per-worker 32").batch_size == 96


def test_a_first_order_optimizer_on_a_convex_model_has_batches_and_an_end(job_of):
    job = job_of("logistic d --optimizer sgd --lr 0.5")
    assert (job.optimizer.lr, job.batch_size, job.stopping.epochs, job.stopping.max_iter) == (0.5, 256, 50, None)


def test_a_learning_rate_changes_the_default_optimizer_only_in_its_rate(job_of):
    assert job_of("mlp:64 d --lr 0.01").optimizer.lr == 0.01


def test_validation_can_be_turned_off_and_given_as_rows(job_of):
    off = job_of("mlp:64 d --valid 0")
    assert (off.valid, off.stopping.patience) == (0.0, None)
    assert len(job_of("mlp:64 d --valid rows.libsvm").valid) == 100


def test_test_rows_fit_the_training_rows(job_of):
    job = job_of("logistic d --test test.libsvm")
    assert len(job.test) == 40
    assert job.test.classes == job.data.classes


def test_processes_begin_before_anything_heavy_and_only_for_a_real_run(session):
    main(["train", "mlp:64", "d", "-q"])
    main(["train", "logistic", "d", "-q"])
    main(["train", "logistic", "d", "--dry-run"])
    main(["train", "logistic", "d", "--design", "sequential", "-w", "2"])
    assert session.begun == [True, False]


def test_nodes_and_what_goes_between_them_are_as_asked(job_of):
    plan = job_of("mlp:64 d -w 4 --nodes 2 --copies 2 --filter key-cache,int8 --bandwidth 100Mbit").plan
    assert (plan.design, plan.nodes, plan.copies, plan.filters, plan.bytes_per_second) == (
        "ps", 2, 2, "key-cache,int8", 12_500_000,
    )  # fmt: skip
    assert (plan.consistency, plan.balance, plan.balances, plan.orphan_timeout) == ("bsp", None, False, 60.0)


def test_consistency_and_balance_are_as_asked(job_of):
    plan = job_of("mlp:64 d -w 2 --consistency ssp:3").plan
    assert (plan.design, plan.consistency, plan.balance, plan.balances) == ("ps", "ssp:3", None, True)
    assert job_of("mlp:64 d -w 2 --consistency asp --no-balance").plan.balance is False
    assert job_of("mlp:64 d -w 2 --balance").plan.balance is True


def test_faults_come_in_their_order(job_of):
    plan = job_of("mlp:64 d -w 2 --inject slow:worker1:x4 --inject kill:worker0@clock50").plan
    assert plan.inject == ("slow:worker1:x4", "kill:worker0@clock50")
    assert job_of("mlp:64 d -w 2").plan.inject == ()


def test_the_plan_is_as_asked(job_of):
    plan = job_of("mlp:64 d --design ps -w 2 --lanes 4 --shards 3 --pin --reproducible --combine model --every 5").plan
    assert (plan.design, plan.workers, plan.lanes, plan.shards, plan.pin) == ("ps", 2, 4, 3, True)
    assert (plan.reproducible, plan.combine, plan.every) == (True, "model", 5)
