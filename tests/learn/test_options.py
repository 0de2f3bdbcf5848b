"""No option is ignored: each parameter of each estimator is read by it, or is named as one without effect."""

import ast
import inspect
import textwrap

import pytest

import trivium.learn as learn
from trivium.learn.base import WITHOUT_EFFECT

ALL = [getattr(learn, name) for name in learn.__all__]
STOCHASTIC = {
    "loss penalty alpha l1_ratio fit_intercept max_iter tol shuffle verbose epsilon random_state learning_rate eta0",
    "power_t early_stopping validation_fraction n_iter_no_change warm_start average batch_size plan",
}
NETWORK = {
    "hidden_layer_sizes activation solver alpha batch_size learning_rate learning_rate_init power_t max_iter shuffle",
    "random_state tol verbose warm_start momentum nesterovs_momentum early_stopping validation_fraction beta_1 beta_2",
    "epsilon n_iter_no_change max_fun plan",
}
LASSO = {"alpha fit_intercept max_iter tol warm_start positive plan"}
HONOURED = {
    "ElasticNet": LASSO | {"l1_ratio"},
    "FactorizationMachineClassifier": {
        "n_factors C solver learning_rate_init init_scale batch_size max_iter tol n_iter_no_change class_weight",
        "random_state warm_start plan",
    },
    "Lasso": LASSO,
    "LinearRegression": {"fit_intercept tol n_jobs positive plan"},
    "LinearSVC": {
        "penalty loss dual tol C multi_class fit_intercept intercept_scaling class_weight verbose max_iter plan",
    },
    "LogisticRegression": {
        "penalty C l1_ratio dual tol fit_intercept intercept_scaling class_weight solver max_iter verbose warm_start",
        "plan",
    },
    "MLPClassifier": NETWORK,
    "MLPRegressor": NETWORK | {"loss"},
    "Ridge": {"alpha fit_intercept max_iter tol solver positive plan"},
    "SGDClassifier": STOCHASTIC | {"n_jobs class_weight"},
    "SGDRegressor": STOCHASTIC,
}


def parameters(kind):
    return set(inspect.signature(kind.__init__).parameters) - {"self"}


def without_effect(kind):
    names = {one.__name__ for one in kind.__mro__}
    return {
        key.rpartition(".")[2] for key in WITHOUT_EFFECT if "." not in key or key.partition(".")[0] in names
    } & parameters(kind)


def read_by(kind):
    """Attributes of ``self`` that our own methods read, other than ``__init__``."""
    found = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("trivium.learn"):
            continue
        for node in ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body:
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                inside = list(ast.walk(node))
                read = [one for one in inside if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load)]
                asked = [
                    one for one in inside if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "getattr"
                ]
                found |= {one.attr for one in read} | {one.args[1].value for one in asked}
    return found


@pytest.mark.parametrize("kind", ALL)
def test_every_parameter_is_honoured_or_said_to_have_no_effect(kind):
    honoured = {name for line in HONOURED[kind.__name__] for name in line.split()}
    idle = without_effect(kind)
    assert honoured | idle == parameters(kind)
    assert not honoured & idle
    assert honoured <= read_by(kind)


def test_parameters_without_effect_exist_and_have_a_reason():
    taken = {name for kind in ALL for name in without_effect(kind)}
    assert {key.rpartition(".")[2] for key in WITHOUT_EFFECT} == taken
    assert all(len(reason) > 10 for reason in WITHOUT_EFFECT.values())


@pytest.mark.parametrize("kind", ALL)
def test_documents_name_what_has_no_effect(kind):
    text = "".join(base.__doc__ or "" for base in kind.__mro__ if base.__module__.startswith("trivium.learn"))
    assert all(f"``{name}``" in text for name in without_effect(kind))
