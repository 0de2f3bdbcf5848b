import math

import pytest

from trivium.core.messages import BEST
from trivium.core.pacing import Agenda, Evaluated, Finish, KeepBest, Look, Pace, Run, SaveNow


def pace(**changes):
    return Pace(**{"total": 12, "every": 4, "watch": "valid", "last_sets": ("train",)} | changes)


def carry_out(agenda, losses, *, finish_at=None, actions=None):
    """Do what the agenda says until it ends; the losses of its looks by clock. Returns the actions."""
    actions = [] if actions is None else actions
    for _ in range(200):
        action = agenda.next()
        actions.append(action)
        match action:
            case Run(until):
                reached = until if finish_at is None else min(until, finish_at)
                agenda.reached(reached, reached == finish_at)
            case Look(clock, sets):
                loss = losses.get(clock, 1.0)
                agenda.evaluated(action, tuple(Evaluated(clock, name, 8, 8, loss, 0.5) for name in sets))
            case KeepBest(clock):
                agenda.keep_done(clock)
            case SaveNow(clock):
                agenda.save_done(clock)
            case Finish():
                return actions
    raise AssertionError("the agenda did not end")


def looks(actions):
    return [action.clock for action in actions if isinstance(action, Look) and action.sets == ("valid",)]


def test_ends_after_all_clocks():
    actions = carry_out(Agenda(pace()), {})
    assert looks(actions) == [4, 8, 12]
    assert actions[-3:] == [Look(12, ("train",)), SaveNow(12, -1), Finish("epochs")]


def test_the_last_stretch_may_be_short():
    actions = carry_out(Agenda(pace(total=10)), {})
    assert [action.until for action in actions if isinstance(action, Run)] == [4, 8, 10]
    assert looks(actions) == [4, 8, 10]


def test_without_watching_it_runs_through():
    actions = carry_out(Agenda(pace(watch="")), {})
    assert actions == [Run(12), Look(12, ("train",)), SaveNow(12, -1), Finish("epochs")]


def test_the_name_of_the_bound_is_the_reason():
    assert carry_out(Agenda(pace(why_total="max_iter")), {})[-1] == Finish("max_iter")


def test_target_loss_ends_it():
    actions = carry_out(Agenda(pace(target_loss=0.3)), {4: 0.5, 8: 0.3, 12: 0.1})
    assert looks(actions) == [4, 8]
    assert actions[-1] == Finish("target_loss")


@pytest.mark.parametrize(("patience", "last"), [(1, 12), (2, 16), (3, 20)])
def test_patience_counts_looks_without_a_new_best(patience, last):
    losses = {4: 0.5, 8: 0.4} | dict.fromkeys(range(12, 41, 4), 0.4)
    actions = carry_out(Agenda(pace(total=40, patience=patience)), losses)
    assert looks(actions)[-1] == last
    assert actions[-1] == Finish("patience")


def test_a_new_best_restores_patience():
    losses = {4: 0.5, 8: 0.6, 12: 0.4, 16: 0.6, 20: 0.6}
    actions = carry_out(Agenda(pace(total=40, patience=2)), losses)
    assert looks(actions) == [4, 8, 12, 16, 20]


def test_converged_ends_it_between_looks():
    actions = carry_out(Agenda(pace(total=None)), {}, finish_at=6)
    assert looks(actions) == [4, 6]
    assert actions[-1] == Finish("converged")


def test_the_best_is_kept_and_evaluated_at_the_end():
    actions = carry_out(Agenda(pace(keep_best=True)), {4: 0.5, 8: 0.2, 12: 0.3})
    assert [action.clock for action in actions if isinstance(action, KeepBest)] == [4, 8]
    assert actions[-3:] == [Look(BEST, ("train",)), SaveNow(12, 8), Finish("epochs")]


def test_the_best_at_the_end_is_evaluated_where_it_is():
    actions = carry_out(Agenda(pace(keep_best=True)), {4: 0.5, 8: 0.4, 12: 0.3})
    assert actions[-4:] == [KeepBest(12), Look(12, ("train",)), SaveNow(12, 12), Finish("epochs")]


def test_a_tie_keeps_the_earlier():
    agenda = Agenda(pace(keep_best=True))
    carry_out(agenda, {4: 0.5, 8: 0.5, 12: 0.5})
    assert (agenda.best_clock, agenda.kept, agenda.since_best) == (4, 4, 2)


def test_nan_is_never_the_best():
    agenda = Agenda(pace(keep_best=True))
    carry_out(agenda, {4: math.nan, 8: 0.5, 12: math.nan})
    assert agenda.best_clock == 8


def test_a_halt_looks_once_more():
    agenda = Agenda(pace())
    agenda.reached(2, False)
    agenda.halt("max_time", brief=False)
    assert carry_out(agenda, {}) == [
        Look(2, ("valid",)),
        Look(2, ("train",)),
        SaveNow(2, -1),
        Finish("max_time"),
    ]


def test_a_brief_halt_only_saves():
    agenda = Agenda(pace())
    agenda.reached(2, False)
    agenda.halt("a person", brief=True)
    assert carry_out(agenda, {}) == [SaveNow(2, -1), Finish("a person")]


def test_the_first_halt_gives_the_reason_and_any_may_make_it_brief():
    agenda = Agenda(pace())
    agenda.halt("max_time", brief=False)
    agenda.halt("a person", brief=True)
    assert (agenda.halted, agenda.brief) == ("max_time", True)


def test_a_checkpoint_is_written_once_a_clock():
    agenda = Agenda(pace(total=40))
    agenda.reached(3, False)
    agenda.save_due = True
    assert agenda.next() == SaveNow(3, -1)
    agenda.save_done(3)
    agenda.save_due = True
    assert agenda.next() == Run(4)
    assert not agenda.save_due


def test_memory_goes_round():
    agenda = Agenda(pace(total=40, keep_best=True))
    for clock, loss in ((4, 0.5), (8, 0.7)):
        agenda.reached(clock, False)
        look = agenda.next()
        agenda.evaluated(look, (Evaluated(clock, "valid", 8.0, 8.0, loss, 0.5),))
        if isinstance(agenda.next(), KeepBest):
            agenda.keep_done(clock)
    agenda.save_done(8)
    again = Agenda.remembered(agenda.pace, agenda.memory())
    assert again == agenda
    assert again.memory() == agenda.memory()


def test_a_fresh_memory_goes_round():
    agenda = Agenda(pace())
    again = Agenda.remembered(agenda.pace, agenda.memory())
    assert again.best_loss == math.inf
    assert (again.clock, again.saved, again.history) == (0, 0, [])


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_run_cut_anywhere_ends_as_if_it_had_not_been(cut):
    losses = {4: 0.5, 8: 0.2, 12: 0.3, 16: 0.25}
    settings = pace(total=16, keep_best=True)
    whole = Agenda(settings)
    carry_out(whole, losses)
    first = Agenda(settings)
    for _ in range(cut):
        action = first.next()
        if isinstance(action, Run):
            first.reached(action.until, False)
        elif isinstance(action, Look):
            value = losses.get(action.clock, 1.0)
            first.evaluated(action, tuple(Evaluated(action.clock, name, 8, 8, value, 0.5) for name in action.sets))
        elif isinstance(action, KeepBest):
            first.keep_done(action.clock)
    second = Agenda.resumed(settings, first.memory(), [])
    carry_out(second, losses)
    assert (second.history, second.best_clock, second.kept) == (whole.history, whole.best_clock, whole.kept)


@pytest.mark.parametrize(
    ("saved", "clock"),
    [([], 4), ([4], 4), ([4, 5, 6], 6), ([7, 8], 8), ([8, 9], 8), ([9, 12], 4), ([2, 3], 4)],
)
def test_resumed_no_further_than_the_next_lease(saved, clock):
    agenda = Agenda(pace())
    agenda.reached(4, False)
    agenda.evaluated(agenda.next(), (Evaluated(4, "valid", 8, 8, 0.5, 0.5),))
    assert Agenda.resumed(pace(), agenda.memory(), saved).clock == clock


def test_resumed_at_a_look_that_is_due():
    agenda = Agenda(pace())
    agenda.reached(4, False)
    resumed = Agenda.resumed(pace(), agenda.memory(), [4, 5])
    assert resumed.clock == 4
    assert resumed.next() == Look(4, ("valid",))


def test_resumed_without_a_manifest():
    assert Agenda.resumed(pace(), b"", [2, 3]).clock == 3
    assert Agenda.resumed(pace(), b"", []).clock == 0
