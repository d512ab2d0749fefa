from __future__ import annotations

from pipeline.engine.jobs.trials import TrialRecord, add_metrics, best_first, is_hopeless, parse_metrics
from pipeline.ml_v1 import JobState


def trial(number: int, *values: float, state: JobState = JobState.SUCCEEDED) -> TrialRecord:
    return TrialRecord(trial_id=number, values={}, state=state, metrics=tuple(enumerate(values, start=1)))


def test_lines_of_the_file_are_read_and_others_left_out():
    data = (
        b'{"timestamp": 1.5, "trial": "1", "loss": "0.5", "global_step": "10"}\n'
        b'{"loss": 0.25, "global_step": 20}\n{"loss": "0.1"}\n'
        b'{"other": "1", "global_step": "3"}\n{"loss": "nan", "global_step": "4"}\n{"loss": [1]}\n'
        b'\xff\xfe\n[1]\n"loss"\nnull\n{"loss": "1", "global_step": "-1"}\n'
        b'{"loss": "1", "global_step": "1e3"}\n' + b"[" * 100_000 + b'\n{"loss": "0.2", "glob'
    )
    assert parse_metrics(data, "loss") == ((10, 0.5), (20, 0.25), (0, 0.1))


def test_of_a_step_the_last_value_stays_and_what_the_file_no_longer_has_too():
    before = ((1, 0.5), (2, 0.4))
    assert add_metrics(before, ((2, 0.3), (3, 0.2))) == ((1, 0.5), (2, 0.3), (3, 0.2))
    assert add_metrics(before, ()) == before
    assert add_metrics((), tuple((0, value) for value in (1.0, 2.0))) == ((0, 2.0),)
    assert len(add_metrics((), tuple((step, 1.0) for step in range(5000)))) == 200


def test_the_median_rule():
    others = [trial(1, 5, 4, 3), trial(2, 5, 3, 1), trial(3, 6, 5, 4)]  # averages at step 2: 4.5, 4, 5.5
    running = JobState.RUNNING
    assert is_hopeless(trial(4, 9, 4.6, state=running), others, minimize=True)
    assert not is_hopeless(trial(4, 9, 4.5, state=running), others, minimize=True)
    assert not is_hopeless(trial(4, 9, 4.6, state=running), others, minimize=False)
    assert is_hopeless(trial(4, 1, 4.4, state=running), others, minimize=False)
    assert not is_hopeless(trial(4, 9, state=running), others[:2], minimize=True)
    assert not is_hopeless(
        TrialRecord(trial_id=4, values={}, state=running, metrics=((0, 9.0),)), others, minimize=True
    )
    assert not is_hopeless(trial(4, state=running), others, minimize=True)


def test_the_best_comes_first_and_what_did_not_succeed_last():
    trials = [trial(1, 2), trial(2, 1), trial(3, 0, state=JobState.FAILED), trial(4, 1)]
    assert [each.trial_id for each in best_first(trials, minimize=True)] == [2, 4, 1, 3]
    assert [each.trial_id for each in best_first(trials, minimize=False)] == [1, 2, 4, 3]
