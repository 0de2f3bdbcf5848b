"""Names of models, and what is wrong with malformed ones."""

import pytest

from trivium.errors import PlanError, UsageError
from trivium.program import models
from trivium.program.logistic import Logistic
from trivium.program.mlp import Mlp
from trivium.program.softmax import Softmax


@pytest.mark.parametrize(
    "name",
    [
        "logistic",
        "softmax",
        "linear",
        "linear:huber",
        "linear:hinge",
        "svm",
        "least_squares",
        "fm:4",
        "mlp:500",
        "mlp:500,300",
        "mlp:500,300:gelu",
        "mlp:5:tanh",
        "null",
        "null:8",
        "count",
        "count:2",
    ],
)
def test_a_name_comes_back(name):
    assert models.model(name).name == name


def test_python_face_equals_the_names():
    assert models.mlp(300, 100, activation="tanh") == models.model("mlp:300,100", activation="tanh")
    assert models.logistic() == models.model("logistic", dtype=None)
    assert models.softmax("float32") == models.model("softmax", dtype="float32")
    assert models.model("logistic", intercept=False) == models.logistic(intercept=False)
    assert models.linear("huber", epsilon=1.5) == models.model("linear:huber", epsilon=1.5)
    assert models.linear("squared_hinge") == models.svm() == models.model("svm") == models.model("linear:squared_hinge")
    assert models.least_squares(positive=True) == models.model("least_squares", positive=True)
    assert models.fm(4) == models.model("fm:4")
    assert models.model("fm") == models.fm()
    assert models.model("mlp:5") == models.model("mlp:5:relu") == Mlp((5,))
    assert models.model("mlp:300,100:tanh") == models.mlp(300, 100, activation="tanh")


@pytest.mark.parametrize(
    "spec",
    [
        "mlp",
        "mlp:",
        "mlp:0",
        "mlp:a",
        "mlp:3,",
        "mlp:-1",
        "mlp:3,,4",
        "mlp:٣",
        "fm:",
        "fm:2,3",
        "fm:0",
        "null:",
        "null:2,3",
    ],
)
def test_malformed_numbers_name_the_form(spec):
    with pytest.raises(UsageError, match=f"{spec.split(':')[0]}:.*as in"):
        models.model(spec)


def test_unknown_names_and_options():
    with pytest.raises(UsageError, match=r"did you mean 'logistic'.*mlp"):
        models.model("logistik")
    with pytest.raises(PlanError, match=r"unknown activation 'tan'.*did you mean 'tanh'"):
        models.model("mlp:5:tan")
    with pytest.raises(PlanError, match=r"unknown loss 'hubert'.*did you mean 'huber'"):
        models.model("linear:hubert")
    with pytest.raises(PlanError, match="that is the model 'logistic'"):
        models.model("linear:log")
    with pytest.raises(UsageError, match="say it once"):
        models.model("linear:huber", loss="hinge")
    with pytest.raises(PlanError, match="logistic cannot use epsilon; 'linear' can; it takes dtype, intercept"):
        models.model("logistic", epsilon=0.1)
    with pytest.raises(PlanError, match="it takes no options"):
        models.model("null", dtype="float32")
    with pytest.raises(UsageError, match="nothing after its name"):
        models.model("softmax:3")
    with pytest.raises(PlanError, match="'mlp' can"):
        models.model("logistic", activation="relu")
    with pytest.raises(PlanError, match="it takes activation, dtype, backend"):
        models.model("mlp:3", depth=2)


def test_programs_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from trivium.program.models import linear\nprogram = linear('huber')\n")
    assert models.model(f"{file}:program").name == "linear:huber"
    assert models.model("trivium.program.models:softmax").name == "softmax"
    with pytest.raises(PlanError, match="it takes no options"):
        models.model(f"{file}:program", dtype="float32")


@pytest.mark.parametrize("make", [Logistic, Softmax])
def test_a_type_in_the_place_of_the_intercept(make):
    with pytest.raises(PlanError, match="intercept='float32': True or False"):
        make("float32")


def test_defaults_are_those_of_the_field():
    logistic, mlp = models.logistic().defaults, models.mlp(5).defaults
    assert (logistic.optimizer.name, logistic.batch_size, logistic.iterations) == ("lbfgs", None, 1000)
    assert (logistic.l2_per_row, logistic.tol) == (1.0, 1e-6)
    assert (mlp.optimizer.name, mlp.batch_size, mlp.epochs, mlp.valid, mlp.patience) == ("adam", 256, 50, 0.1, 3)
