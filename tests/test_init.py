"""The public names: sorted, all there, quick to import."""

import subprocess
import sys

import pytest

import trivium as tv

TIMED = """
import sys, time
began = time.perf_counter()
import trivium
print(time.perf_counter() - began)
print(*[name for name in ("numpy", "jax", "numba", "sklearn", "pyarrow", "pandas", "scipy") if name in sys.modules])
"""


def test_all_public_names_are_sorted_and_listed():
    assert list(tv.__all__) == sorted(tv.__all__) == dir(tv)


@pytest.mark.parametrize("name", tv.__all__)
def test_each_public_name_is_there_and_documented(name):
    assert getattr(tv, name).__doc__


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'fit'; it has .*train"):
        tv.fit  # noqa: B018


@pytest.mark.parametrize("module", [tv.models, tv.optim, tv.transforms])
def test_rooms_show_public_names_only(module):
    names = dir(module)
    assert names == sorted(names) and not any(name.startswith("_") for name in names)
    assert all(callable(getattr(module, name)) for name in names)
    with pytest.raises(AttributeError, match="it has "):
        module.nothing_of_the_kind  # noqa: B018


def test_models_and_optimizers_have_tidy_names():
    assert {"logistic", "softmax", "mlp"} <= set(dir(tv.models))
    assert {"adam", "adamw", "lbfgs", "owlqn", "sgd", "momentum", "Cosine"} <= set(dir(tv.optim))
    assert tv.optim.adam(1e-2).lr == 1e-2
    assert tv.models.mlp(300, 100, activation="tanh").name == "mlp:300,100:tanh"


@pytest.mark.slow
def test_importing_loads_nothing_heavy():
    told = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True)
    took, *heavy = told.stdout.split()
    assert heavy == []
    assert float(took) < 0.3
