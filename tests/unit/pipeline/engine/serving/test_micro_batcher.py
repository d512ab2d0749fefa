from __future__ import annotations

import threading
import time

import numpy as np

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.micro_batcher import MicroBatcher, PredictRequest, PredictResponse
from pipeline.engine.serving.watchdog import Watchdog
from pipeline.errors import DeadlineExceeded, Internal, PipelineError

SIDE = 2


class FakeNetwork:
    """Answers with the first level of an image, and records the batches; `gate` holds it back."""

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
    """Collects the outcomes of images, in the order they arrive."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, PredictResponse | PipelineError]] = []
        self._changed = threading.Condition()

    def image(self, level: int, read=None, **more) -> PredictRequest:
        def done(answer):
            with self._changed:
                self.outcomes.append((level, answer))
                self._changed.notify_all()

        return PredictRequest(
            read=read or (lambda: np.full((SIDE, SIDE, 3), level, np.uint8)), done=done, **more
        )

    def wait(self, count: int) -> dict[int, PredictResponse | PipelineError]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= count, 10)
        return dict(self.outcomes)


def occupy(network: FakeNetwork, batcher: MicroBatcher, answers: Answers) -> None:
    """Occupy the worker thread with an image, so that later requests queue up."""
    network.gate.clear()
    network.is_entered.clear()
    batcher.submit([answers.image(1)], is_online=True)
    assert network.is_entered.wait(10)


def refuse():
    raise PredictionFailed("a bad picture")


def test_a_free_thread_takes_a_single_image_at_once():
    network, answers = FakeNetwork(), Answers()
    batcher = MicroBatcher([network], max_batch=4, watchdog=Watchdog(60))
    batcher.submit([answers.image(7)], is_online=True)
    assert answers.wait(1)[7].outputs.tolist() == [7.0]
    assert network.batches == [[7]]
    assert batcher.take_sizes() == [1]
    assert batcher.take_sizes() == []


def test_queued_images_form_one_batch_up_to_its_largest_size():
    network, answers = FakeNetwork(), Answers()
    batcher = MicroBatcher([network], max_batch=4, watchdog=Watchdog(60))
    occupy(network, batcher, answers)
    for level in range(10, 16):  # each a request of its own
        batcher.submit([answers.image(level)], is_online=True)
    network.gate.set()
    found = answers.wait(7)
    assert network.batches == [[1], [10, 11, 12, 13], [14, 15]]
    assert all(found[level].outputs.tolist() == [level] for level in found)


def test_threads_share_the_queue():
    networks, answers = [FakeNetwork(), FakeNetwork()], Answers()
    batcher = MicroBatcher(networks, max_batch=8, watchdog=Watchdog(60))
    for network in networks:
        network.gate.clear()
    batcher.submit([answers.image(1), answers.image(2)], is_online=True)
    assert all(network.is_entered.wait(10) for network in networks)
    batcher.submit([answers.image(level) for level in range(10, 16)], is_online=True)
    networks[0].gate.set()
    answers.wait(1 + 6)  # alone, the free thread takes fair shares until nothing is left
    networks[1].gate.set()
    answers.wait(8)
    assert networks[0].batches[1] == [10, 11, 12]


def test_online_images_go_before_those_of_batches():
    network, answers = FakeNetwork(), Answers()
    batcher = MicroBatcher([network], max_batch=2, watchdog=Watchdog(60))
    occupy(network, batcher, answers)
    batcher.submit([answers.image(level) for level in (20, 21)], is_online=False)
    batcher.submit([answers.image(level) for level in (10, 11)], is_online=True)
    network.gate.set()
    answers.wait(5)
    assert network.batches == [[1], [10, 11], [20, 21]]


def test_a_bad_image_never_fails_its_neighbours():
    network, answers = FakeNetwork(), Answers()
    batcher = MicroBatcher([network], max_batch=8, watchdog=Watchdog(60))
    occupy(network, batcher, answers)

    def crash():
        raise KeyError("a mistake of ours")

    pictures = [
        answers.image(10),
        answers.image(11, refuse),
        answers.image(12, crash),
        answers.image(13),
    ]
    for picture in pictures:
        batcher.submit([picture], is_online=True)
    network.gate.set()
    found = answers.wait(5)
    assert network.batches == [[1], [10, 13]]
    assert found[10].outputs.tolist() == [10.0]
    assert found[13].outputs.tolist() == [13.0]
    assert isinstance(found[11], PredictionFailed)
    assert isinstance(found[12], Internal)


def test_a_batch_of_only_bad_images_runs_no_network():
    network, answers = FakeNetwork(), Answers()
    MicroBatcher([network], max_batch=8, watchdog=Watchdog(60)).submit(
        [answers.image(5, refuse)], is_online=True
    )
    assert isinstance(answers.wait(1)[5], PredictionFailed)
    assert network.batches == []


def test_a_network_that_fails_leaves_its_thread_alive():
    network, answers = FakeNetwork(), Answers()
    batcher = MicroBatcher([network], max_batch=8, watchdog=Watchdog(60))
    batcher.submit([answers.image(66)], is_online=True)
    assert isinstance(answers.wait(1)[66], Internal)
    batcher.submit([answers.image(7)], is_online=True)
    assert answers.wait(2)[7].outputs.tolist() == [7.0]


def test_a_request_past_its_deadline_is_not_predicted():
    network, answers = FakeNetwork(), Answers()
    batcher = MicroBatcher([network], max_batch=8, watchdog=Watchdog(60))
    occupy(network, batcher, answers)
    late = answers.image(9, deadline=time.monotonic() - 0.001)
    batcher.submit([late, answers.image(10, deadline=time.monotonic() + 60)], is_online=True)
    network.gate.set()
    assert isinstance(answers.wait(3)[9], DeadlineExceeded)
    assert network.batches == [[1], [10]]
