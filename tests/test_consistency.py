"""Which programs and optimizers go with which consistency."""

import numpy as np
import pytest

from trivium.core.consistency import Rule
from trivium.data.table import DataSpec
from trivium.errors import PlanError
from trivium.plan import Plan
from trivium.program.averaging import ModelAveraging
from trivium.program.margins import Margins
from trivium.program.models import model
from trivium.program.null import Count, Total
from trivium.program.optimizers import NAMES, optimizer
from trivium.program.optimizers.base import Optimizer
from trivium.program.optimizers.epochs import Epochs
from trivium.running.consistency import check_consistency, check_filters, tolerant

RELAXED = ("ssp:1", "essp:3", "asp", "backup:1")
CLASSES = DataSpec(20, 3, False, (0.0, 1.0), {"x": ("float32", (3,)), "y": ("int32", ())}, 60)
NUMBERS = DataSpec(20, 3, False, (), {"x": ("float32", (3,)), "y": ("float32", ())}, 60)


def plan_of(consistency, design="ps"):
    return Plan(design, workers=2, consistency=consistency)


@pytest.mark.parametrize("consistency", RELAXED)
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "adam", "adamw", "ftrl"])
def test_gradients_and_first_order_steps_go_with_all(consistency, name):
    for one in ("logistic", "softmax", "fm:2"):
        rule = check_consistency(plan_of(consistency), model(one).for_data(CLASSES), optimizer(name))
        assert rule == Rule.parse(consistency)


@pytest.mark.parametrize("consistency", RELAXED)
@pytest.mark.parametrize("name", ["lbfgs", "owlqn"])
def test_line_searches_need_whole_fresh_sums(consistency, name):
    with pytest.raises(PlanError) as told:
        check_consistency(plan_of(consistency), model("logistic").for_data(CLASSES), optimizer(name))
    assert str(told.value) == (
        f"consistency={consistency}: {name} needs whole sums of fresh deltas; use consistency='bsp', or an optimizer "
        "that takes steps as they come: adagrad, adam, adamw, ftrl, momentum, nesterov, sgd"
    )


@pytest.mark.parametrize("consistency", ["bsp", "ssp:0", "essp:0"])
def test_with_no_slack_everything_goes(consistency):
    squares = model("least_squares").for_data(NUMBERS)
    for program, opt in (
        (squares, squares.defaults.optimizer),
        (model("logistic").for_data(CLASSES), optimizer("lbfgs")),
    ):
        assert check_consistency(plan_of(consistency), program, opt).whole


@pytest.mark.parametrize("consistency", RELAXED)
def test_moments_are_summed_whole(consistency):
    program = model("least_squares").for_data(NUMBERS)
    with pytest.raises(PlanError, match=f"consistency={consistency}: least_squares cannot .*; it allows bsp$"):
        check_consistency(plan_of(consistency), program, program.defaults.optimizer)


def test_a_delta_that_is_not_shaped_like_a_is_summed_whole():
    program = Margins("squared_hinge", curved=True).for_data(CLASSES)
    assert program.delta_layout != program.layout
    with pytest.raises(PlanError, match="margins:squared_hinge cannot be trained under it; it allows bsp"):
        check_consistency(plan_of("ssp:1"), program, optimizer("sgd"))


def test_models_are_averaged_when_all_are_there():
    program = ModelAveraging(model("logistic").for_data(CLASSES), optimizer("sgd"))
    with pytest.raises(PlanError, match="it allows bsp"):
        check_consistency(plan_of("backup:1"), program, optimizer("sgd"))


def test_epochs_look_back():
    with pytest.raises(PlanError, match="sgd needs whole sums"):
        check_consistency(plan_of("asp"), model("logistic").for_data(CLASSES), Epochs(optimizer("sgd"), 3, 2))


def test_what_counts_may_be_counted_in_parts():
    assert check_consistency(plan_of("asp"), Count().for_data(CLASSES), Total()).kind == "asp"


def test_only_servers_have_it_however_the_plan_was_made():
    settled = plan_of("asp")
    object.__setattr__(settled, "design", "allreduce")
    with pytest.raises(PlanError, match="consistency=asp: only parameter servers have that"):
        check_consistency(settled, model("logistic").for_data(CLASSES), optimizer("sgd"))


def test_an_optimizer_of_ones_own_must_say_that_it_tolerates():
    class Mine(Optimizer):
        name = "mine"

        def update(self, a, g, state, totals, step, out, new):
            np.copyto(out, a)

    with pytest.raises(PlanError, match="mine needs whole sums"):
        check_consistency(plan_of("ssp:2"), model("logistic").for_data(CLASSES), Mine())


def test_small_gradients_that_kkt_must_see_are_not_saved_up():
    with pytest.raises(PlanError, match="kkt must see the small gradients of each clock apart"):
        check_filters(filtered("kkt", bandwidth="1Mbit"), optimizer("sgd"), 1e-3)
    assert check_filters(filtered("int8", bandwidth="1Mbit"), optimizer("adam"), 0.0).remembers


def filtered(filters, **more):
    return Plan("ps", workers=2, nodes=2, filters=filters, **more)


def test_filters_go_with_steps_that_add_up():
    assert str(check_filters(filtered("key-cache,int8"), optimizer("adam"), 0.0)) == "key-cache,int8"
    assert check_filters(filtered(""), optimizer("lbfgs"), 0.0).filters == ()
    assert check_filters(filtered("key-cache", reproducible=True), optimizer("lbfgs"), 0.0).lossless


@pytest.mark.parametrize(
    ("plan", "name", "says"),
    [
        (filtered("int9"), "sgd", "int9"),
        (filtered("topk:0.1"), "lbfgs", "lbfgs needs all of it at once"),
        (filtered("topk:0.1", combine="model", every=2), "sgd", "sends a part of each delta later"),
        (filtered("kkt"), "ftrl", "L1 penalty"),
        (filtered("int8", reproducible=True), "sgd", "leave reproducible out, or use filters that lose nothing"),
        (filtered("key-cache,float16", reproducible=True), "sgd", "filters=key-cache,float16: what is lost"),
        (filtered("", bandwidth="1Mbit", reproducible=True), "sgd", "leave reproducible or bandwidth out"),
        (filtered("", bandwidth="1Mbit"), "lbfgs", "bandwidth=1Mbit: a part of each delta is sent later, and lbfgs"),
        (filtered("", bandwidth="1Mbit", combine="model", every=2), "sgd", "and combine='model' needs all of it"),
    ],
)
def test_filters_that_do_not_fit_are_refused(plan, name, says):
    with pytest.raises(PlanError) as told:
        check_filters(plan, optimizer(name), 0.0)
    assert says in str(told.value)


def test_the_names_are_all_but_the_line_searches():
    assert set(NAMES) - set(tolerant()) == {"lbfgs", "owlqn"}
