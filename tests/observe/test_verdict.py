import pytest

from trivium.observe.verdict import budget, threads_of, verdict, why_not
from trivium.testing.records import a_record


@pytest.mark.parametrize(
    ("alone", "word", "ratio"),
    [(500.0, "it pays", "2.00×"), (1000.0, "it makes no difference", "1.00×"), (2000.0, "it does not pay", "0.50×")],
)
def test_the_sentence_follows_the_ratio(alone, word, ratio):
    text = verdict(a_record(samples_per_second=1000.0), alone, 2)
    assert text.startswith(word)
    assert ratio in text
    assert "one process with 2 threads" in text


def test_a_slower_run_names_the_faster_way():
    assert "--design sequential" in verdict(a_record(samples_per_second=10.0), 100.0, 1)
    assert "one process with one thread" in verdict(a_record(samples_per_second=10.0), 100.0, 1)


def test_no_rate_no_verdict():
    assert "not measured" in verdict(a_record(), 0.0, 2)


def test_the_budget_is_a_tenth_of_the_run_with_all_that_comes_before_the_first_step():
    quick = {"startup_seconds": 0.4, "compile_seconds": 0.2, "load_seconds": 0.2, "evaluate_seconds": 0.2}
    assert budget(a_record(seconds=3.0, **quick), 1) == pytest.approx(0.4 - 0.1 - 0.2)
    assert budget(a_record(seconds=1000.0), 64) == 0.5
    assert budget(a_record(seconds=8.0, compile_seconds=0.5), 16) == 0.5
    assert budget(a_record(seconds=16.0, compile_seconds=2.4), 16) == 0.5
    assert budget(a_record(seconds=6.0, compile_seconds=2.4), 16) == 0.0
    assert budget(a_record(seconds=0.1, startup_seconds=0.1, compile_seconds=0.1), 1) == 0.0
    assert budget(a_record(design="sequential"), 256) == 0.0


def test_steps_too_long_for_the_budget_are_not_started():
    assert budget(a_record(seconds=10.0, samples_per_second=100.0), 1000) == 0.0


def test_threads_are_those_of_the_run_within_the_machine():
    assert threads_of(a_record(workers=2), 8) == 2
    assert threads_of(a_record(workers=16), 8) == 8


def test_a_run_that_lost_a_process_is_not_judged():
    struck = a_record(seconds=1000.0, notices=("worker 1 died (SIGKILL); its lanes went to worker 0",))
    assert budget(struck, 64) == 0.0
    assert "a process died" in why_not(struck)


def test_what_was_not_measured_says_why():
    assert "baseline" in why_not(a_record(design="sequential"))
    short = why_not(a_record(seconds=0.3, startup_seconds=0.5, compile_seconds=0.5))
    assert "more than" in short and "are worth" in short
    assert "cannot have paid" in short
