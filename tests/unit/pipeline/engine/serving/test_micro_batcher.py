from __future__ import annotations

import threading
import time

import numpy as np

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.micro_batcher import MicroBatcher, PredictRequest, PredictResponse
from pipeline.errors import DeadlineExceeded, Internal, PipelineError

SIDE = 2


class FakeNetwork:
    """Answers with a picture's first level, and notes the batches; `gate` holds it back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_entered = threading.Event()

    def predict(self, pixels):
        self.is_entered.set()
        assert self.gate.wait(10)
        levels = pixels[:, 0, 0, 0].tolist()
        self.batches.append(levels)
        if 66 in levels:
            raise ValueError("the network broke")
        return np.array(levels, np.float32)[:, None]


class Answers:
    """Collects what is told about pictures, in the order it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, PredictResponse | PipelineError]] = []
        self._changed = threading.Condition()

    def picture(self, level: int, read=None, **more) -> PredictRequest:
        def done(answer):
            with self._changed:
                self.told.append((level, answer))
                self._changed.notify_all()

        return PredictRequest(
            read=read or (lambda: np.full((SIDE, SIDE, 3), level, np.uint8)), done=done, **more
        )

    def wait(self, count: int) -> dict[int, PredictResponse | PipelineError]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.told) >= count, 10)
        return dict(self.told)


def held(network: FakeNetwork, lanes: MicroBatcher, answers: Answers) -> None:
    """Occupy a lane with a picture, so that what comes next piles up."""
    network.gate.clear()
    network.is_entered.clear()
    lanes.submit([answers.picture(1)], is_online=True)
    assert network.is_entered.wait(10)


def refuse():
    raise PredictionFailed("a bad picture")


def test_a_free_lane_takes_a_lone_picture_at_once():
    network, answers = FakeNetwork(), Answers()
    lanes = MicroBatcher([network], max_batch=4)
    lanes.submit([answers.picture(7)], is_online=True)
    assert answers.wait(1)[7].outputs.tolist() == [7.0]
    assert network.batches == [[7]]
    assert lanes.take_sizes() == [1]
    assert lanes.take_sizes() == []


def test_what_piled_up_is_one_batch_of_at_most_its_largest_size():
    network, answers = FakeNetwork(), Answers()
    lanes = MicroBatcher([network], max_batch=4)
    held(network, lanes, answers)
    for level in range(10, 16):  # each a request of its own
        lanes.submit([answers.picture(level)], is_online=True)
    network.gate.set()
    found = answers.wait(7)
    assert network.batches == [[1], [10, 11, 12, 13], [14, 15]]
    assert all(found[level].outputs.tolist() == [level] for level in found)


def test_lanes_share_what_piled_up():
    networks, answers = [FakeNetwork(), FakeNetwork()], Answers()
    lanes = MicroBatcher(networks, max_batch=8)
    for network in networks:
        network.gate.clear()
    lanes.submit([answers.picture(1), answers.picture(2)], is_online=True)
    assert all(network.is_entered.wait(10) for network in networks)
    lanes.submit([answers.picture(level) for level in range(10, 16)], is_online=True)
    networks[0].gate.set()
    answers.wait(1 + 6)  # alone, the free lane takes fair shares until nothing is left
    networks[1].gate.set()
    answers.wait(8)
    assert networks[0].batches[1] == [10, 11, 12]


def test_online_pictures_go_before_those_of_batches():
    network, answers = FakeNetwork(), Answers()
    lanes = MicroBatcher([network], max_batch=2)
    held(network, lanes, answers)
    lanes.submit([answers.picture(level) for level in (20, 21)], is_online=False)
    lanes.submit([answers.picture(level) for level in (10, 11)], is_online=True)
    network.gate.set()
    answers.wait(5)
    assert network.batches == [[1], [10, 11], [20, 21]]


def test_a_bad_picture_never_fails_its_neighbours():
    network, answers = FakeNetwork(), Answers()
    lanes = MicroBatcher([network], max_batch=8)
    held(network, lanes, answers)

    def crash():
        raise KeyError("a mistake of ours")

    pictures = [
        answers.picture(10),
        answers.picture(11, refuse),
        answers.picture(12, crash),
        answers.picture(13),
    ]
    for picture in pictures:
        lanes.submit([picture], is_online=True)
    network.gate.set()
    found = answers.wait(5)
    assert network.batches == [[1], [10, 13]]
    assert found[10].outputs.tolist() == [10.0]
    assert found[13].outputs.tolist() == [13.0]
    assert isinstance(found[11], PredictionFailed)
    assert isinstance(found[12], Internal)


def test_a_batch_of_bad_pictures_only_runs_no_network():
    network, answers = FakeNetwork(), Answers()
    MicroBatcher([network], max_batch=8).submit([answers.picture(5, refuse)], is_online=True)
    assert isinstance(answers.wait(1)[5], PredictionFailed)
    assert network.batches == []


def test_a_network_that_breaks_leaves_its_lane_alive():
    network, answers = FakeNetwork(), Answers()
    lanes = MicroBatcher([network], max_batch=8)
    lanes.submit([answers.picture(66)], is_online=True)
    assert isinstance(answers.wait(1)[66], Internal)
    lanes.submit([answers.picture(7)], is_online=True)
    assert answers.wait(2)[7].outputs.tolist() == [7.0]


def test_nobody_is_predicted_who_waits_no_more():
    network, answers = FakeNetwork(), Answers()
    lanes = MicroBatcher([network], max_batch=8)
    held(network, lanes, answers)
    late = answers.picture(9, deadline=time.monotonic() - 0.001)
    lanes.submit([late, answers.picture(10, deadline=time.monotonic() + 60)], is_online=True)
    network.gate.set()
    assert isinstance(answers.wait(3)[9], DeadlineExceeded)
    assert network.batches == [[1], [10]]
