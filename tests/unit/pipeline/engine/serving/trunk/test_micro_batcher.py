from __future__ import annotations

import threading
import time

import numpy as np

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.trunk.heads import FeatureCache, LoadedHead
from pipeline.engine.serving.trunk.micro_batcher import MicroBatcher, Picture, PredictRequest, PredictResponse
from pipeline.engine.serving.watchdog import Watchdog
from pipeline.errors import DeadlineExceeded, Internal, PipelineError

SIDE = 2


class FakeAnswers:
    """A head whose output is the first feature, and a number of its own if it has one."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def predict(self, pooled):
        if self.number == 13:
            raise ValueError("the head broke")
        own = np.full((len(pooled), 1), self.number)
        return np.hstack([pooled, own]) if self.number else pooled


HEAD = LoadedHead("h", FakeAnswers())


class FakeNetwork:
    """Features are the first level of a picture; it records the batches, and `gate` holds it back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_entered = threading.Event()

    def pool(self, pixels):
        self.is_entered.set()
        assert self.gate.wait(10)
        levels = pixels[:, 0, 0, 0].tolist()
        self.batches.append(levels)
        if 66 in levels:
            raise ValueError("the network broke")
        return np.array(levels, np.float32)[:, None]


def make_batcher(*networks: FakeNetwork, max_batch: int) -> MicroBatcher:
    return MicroBatcher(
        networks, max_batch=max_batch, cache=FeatureCache(max_bytes=1000), watchdog=Watchdog(60)
    )


class Answers:
    """Collects the outcomes of images, in the order they arrive."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, PredictResponse | PipelineError]] = []
        self._changed = threading.Condition()

    def image(self, level: int, read=None, *, key="", heads=(HEAD,), **more) -> PredictRequest:
        def done(answer):
            is_single = not isinstance(answer, PipelineError) and len(answer) == 1
            with self._changed:
                self.outcomes.append((level, answer[0] if is_single else answer))
                self._changed.notify_all()

        picture = Picture(key=key, decode=read or (lambda: np.full((SIDE, SIDE, 3), level, np.uint8)))
        return PredictRequest(read=lambda: picture, heads=heads, done=done, **more)

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
    batcher = make_batcher(network, max_batch=4)
    batcher.submit([answers.image(7)], is_online=True)
    assert answers.wait(1)[7].outputs.tolist() == [7.0]
    assert network.batches == [[7]]
    assert batcher.take_sizes() == [1]
    assert batcher.take_sizes() == []


def test_queued_images_form_one_batch_up_to_its_largest_size():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=4)
    occupy(network, batcher, answers)
    for level in range(10, 16):  # each a request of its own
        batcher.submit([answers.image(level)], is_online=True)
    network.gate.set()
    found = answers.wait(7)
    assert network.batches == [[1], [10, 11, 12, 13], [14, 15]]
    assert all(found[level].outputs.tolist() == [level] for level in found)


def test_threads_share_the_queue():
    networks, answers = [FakeNetwork(), FakeNetwork()], Answers()
    batcher = make_batcher(*networks, max_batch=8)
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
    batcher = make_batcher(network, max_batch=2)
    occupy(network, batcher, answers)
    batcher.submit([answers.image(level) for level in (20, 21)], is_online=False)
    batcher.submit([answers.image(level) for level in (10, 11)], is_online=True)
    network.gate.set()
    answers.wait(5)
    assert network.batches == [[1], [10, 11], [20, 21]]


def test_a_bad_image_never_fails_its_neighbours():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=8)
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
    make_batcher(network, max_batch=8).submit([answers.image(5, refuse)], is_online=True)
    assert isinstance(answers.wait(1)[5], PredictionFailed)
    assert network.batches == []


def test_a_network_that_fails_leaves_its_thread_alive():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=8)
    batcher.submit([answers.image(66)], is_online=True)
    assert isinstance(answers.wait(1)[66], Internal)
    batcher.submit([answers.image(7)], is_online=True)
    assert answers.wait(2)[7].outputs.tolist() == [7.0]


def test_a_request_past_its_deadline_is_not_predicted():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=8)
    occupy(network, batcher, answers)
    late = answers.image(9, deadline=time.monotonic() - 0.001)
    batcher.submit([late, answers.image(10, deadline=time.monotonic() + 60)], is_online=True)
    network.gate.set()
    assert isinstance(answers.wait(3)[9], DeadlineExceeded)
    assert network.batches == [[1], [10]]


def test_each_head_answers_about_one_pass_and_a_broken_one_fails_alone():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=8)
    heads = [LoadedHead(str(number), FakeAnswers(number)) for number in (5, 13, 6)]
    batcher.submit([answers.image(7, heads=heads)], is_online=True)
    first, broken, last = answers.wait(1)[7]
    assert network.batches == [[7]]
    assert (first.outputs.tolist(), last.outputs.tolist()) == ([7.0, 5.0], [7.0, 6.0])
    assert isinstance(broken, Internal)


def test_a_batch_holds_pictures_of_several_classifiers():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=8)
    occupy(network, batcher, answers)
    for number in (2, 3):
        picture = answers.image(10 * number, heads=[LoadedHead(str(number), FakeAnswers(number))])
        batcher.submit([picture], is_online=True)
    network.gate.set()
    found = answers.wait(3)
    assert network.batches == [[1], [20, 30]]
    assert found[20].outputs.tolist() == [20.0, 2.0]
    assert found[30].outputs.tolist() == [30.0, 3.0]


def test_a_picture_that_was_seen_is_neither_decoded_nor_run_again():
    network, answers = FakeNetwork(), Answers()
    batcher = make_batcher(network, max_batch=8)
    batcher.submit([answers.image(7, key="a")], is_online=True)
    answers.wait(1)
    batcher.submit([answers.image(8, refuse, key="a")], is_online=False)
    assert answers.wait(2)[8].outputs.tolist() == [7.0]
    assert network.batches == [[7]]
    assert batcher.take_sizes() == [1]


def test_only_so_many_features_are_kept():
    cache = FeatureCache(max_bytes=8)
    for level in range(3):
        cache.put(str(level), np.float32([level]))
    assert [cache.get(str(level)) is None for level in range(3)] == [True, False, False]
    cache.get("1")
    cache.put("3", np.float32([3]))
    assert cache.get("2") is None
    cache.put("large", np.zeros(3, np.float32))
    assert cache.get("large") is None
