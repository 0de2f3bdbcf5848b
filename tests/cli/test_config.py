import pytest

from trivium.cli import main, train
from trivium.errors import UsageError


@pytest.fixture
def job_of(session, tmp_path):
    def run(toml, line=""):
        (tmp_path / "plan.toml").write_text(toml)
        assert main(["train", "--config", "plan.toml", "-q", *line.split()]) == 0
        return session.jobs[-1]

    return run


FULL = """
model = "mlp:64"
data = "rows.libsvm"
[where]
design = "ps"
workers = 2
[stop]
max-time = 60
epochs = 5
pin = true
"""


def test_options_stand_in_any_section(job_of):
    job = job_of(FULL)
    assert (job.plan.design, job.plan.workers, job.plan.pin) == ("ps", 2, True)
    assert (job.stopping.epochs, job.stopping.max_time) == (5, 60.0)
    assert job.data.name == "rows.libsvm"


SERVERS = """
model = "mlp:64"
data = "d"
workers = 4
[servers]
nodes = 2
consistency = "essp:2"
balance = false
filter = ["key-cache", "int8"]
bandwidth = "1Gbit"
inject = ["slow:worker1:x4", "delay:5ms"]
"""


def test_options_of_the_parameter_server_stand_there_too(job_of):
    plan = job_of(SERVERS).plan
    assert (plan.nodes, plan.consistency, plan.balance) == (2, "essp:2", False)
    assert (plan.filters, plan.bandwidth, plan.inject) == ("key-cache,int8", "1Gbit", ("slow:worker1:x4", "delay:5ms"))


def test_an_option_that_may_be_typed_often_may_be_said_once(job_of):
    assert job_of(SERVERS.replace('["slow:worker1:x4", "delay:5ms"]', '"delay:5ms"')).plan.inject == ("delay:5ms",)
    plan = job_of(SERVERS, "--balance --inject slow:each:x2").plan
    assert (plan.balance, plan.inject) == (True, ("slow:each:x2",))


def test_what_is_typed_wins(job_of):
    job = job_of(FULL, "--epochs 7 -w 3")
    assert (job.stopping.epochs, job.plan.workers, job.stopping.max_time) == (7, 3, 60.0)


def test_arguments_that_are_typed_win_too(job_of):
    job = job_of(FULL, "logistic other.libsvm --max-iter 3 --epochs 2")
    assert (job.sources["model"], job.data.name) == ("logistic", "other.libsvm")


def test_underscores_and_other_spellings_are_fine(job_of):
    assert job_of('model = "mlp:64"\ndata = "d"\n[a]\nbatch_size = 64\n').batch_size == 64
    assert job_of('model = "mlp:64"\ndata = "d"\n[a]\nbatch = "full"\noptimizer = "lbfgs"\n').batch_size == "full"


def test_lists_and_tables_are_as_if_typed(session, monkeypatch, tmp_path):
    seen = []

    def refuse(asked, program):
        seen.append(asked)
        raise UsageError("enough")

    monkeypatch.setattr(train, "training", refuse)
    text = """
    model = "logistic"
    data = "d"
    missing = ["NA", "?"]
    [reading]
    types = { age = "float", "a b" = "text" }
    """
    (tmp_path / "plan.toml").write_text(text)
    assert main(["train", "--config", "plan.toml", "-q"]) == 2
    assert (seen[0].missing, seen[0].types) == ("NA,?", "age=float,a b=text")


BAD = [
    ("epohcs = 5", "plan.toml, line 3: unknown option 'epohcs' (did you mean 'epochs'?)"),
    ("[stop]\n\nepochs = 0", "plan.toml, line 5: epochs: 0 is too small; it must be 1 or more"),
    ("epochs = 3\n[stop]\nepochs = 4", "plan.toml, line 5: epochs was said before in this file, in line 3"),
    ("batch = 3\nbatch-size = 4", "plan.toml, line 4: batch-size was said before in this file, in line 3"),
    ("epochs = ", "plan.toml is not TOML"),
    ("epochs = 1979-05-27", "line 3: epochs is date"),
    ('config = "other.toml"', "unknown option 'config'"),
    ("[stop.deep]\nepochs = 3", "unknown option 'deep'"),
    ("pin = 3", "line 3: pin"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_mistake_names_file_and_line(session, tmp_path, capsys, text, message):
    (tmp_path / "plan.toml").write_text(f'model = "logistic"\ndata = "d"\n{text}\n')
    assert main(["train", "--config", "plan.toml"]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert session.jobs == []


def test_a_file_that_is_not_there_is_an_error(session, capsys):
    assert main(["train", "logistic", "d", "--config", "missing.toml"]) == 2
    assert "--config missing.toml: No such file or directory; give a TOML file of options" in capsys.readouterr().err
