from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.tflite.novelty import DIRECTIONS, NoveltyScorer, unit_rows
from pipeline.trainer import coreset as module
from pipeline.trainer.coreset import build_novelty, choose_spread


def clusters(num: int, *, seed: int = 0, centre: int = 0) -> Any:
    random = np.random.default_rng(seed)
    centres = 4 * np.eye(16)[centre + np.arange(num) % 4]
    return np.maximum(random.normal(0, 0.6, (num, 16)) + centres, 0).astype(np.float32)


def ids_of(features: Any) -> list[str]:
    return [f"p{number}" for number in range(len(features))]


class TestNovelty:
    def test_new_pictures_of_the_same_kind_are_spread_over_the_scale(self) -> None:
        features = clusters(300)
        scores = NoveltyScorer(build_novelty(features, ids_of(features), {})).score(clusters(2000, seed=5))
        assert 0.01 < (scores > 0.95).mean() < 0.12
        assert 0.35 < np.median(scores) < 0.65

    def test_pictures_of_another_kind_are_at_its_end(self) -> None:
        features = clusters(300)
        scores = NoveltyScorer(build_novelty(features, ids_of(features), {})).score(clusters(300, centre=8))
        assert (scores > 0.99).mean() > 0.99

    def test_near_duplicates_do_not_make_new_pictures_look_strange(self) -> None:
        features = np.repeat(clusters(60), 6, axis=0)
        features += np.random.default_rng(1).normal(0, 1e-3, features.shape).astype(np.float32)
        ids = ids_of(features)
        groups = {id: f"p{number - number % 6}" for number, id in enumerate(ids)}
        new = clusters(1000, seed=7)
        apart = NoveltyScorer(build_novelty(features, ids, groups)).score(new)
        alone = NoveltyScorer(build_novelty(features, ids, {})).score(new)
        assert (alone > 0.95).mean() > 0.9
        assert (apart > 0.95).mean() < 0.2

    def test_the_same_pictures_give_the_same_bytes(self) -> None:
        features = clusters(700)
        first, second = (build_novelty(features, ids_of(features), {}) for _ in range(2))
        assert first.directions.tobytes() == second.directions.tobytes()
        assert first.quantiles.tobytes() == second.quantiles.tobytes()
        assert first.directions.shape == (DIRECTIONS, 16)

    @pytest.mark.parametrize("count", [1, 3, 10])
    def test_a_few_pictures_are_enough_to_be_written(self, count: int) -> None:
        features = clusters(count)
        novelty = build_novelty(features, ids_of(features), {})
        assert novelty.directions[count:].max() == 0
        assert np.isfinite(novelty.quantiles).all()

    def test_of_very_many_pictures_a_fixed_sample_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_PICTURES", 50)
        features = clusters(200)
        novelty = build_novelty(features, ids_of(features), {})
        assert (novelty.directions.max(1) > 0).sum() == 50
        again = build_novelty(features[::-1], ids_of(features)[::-1], {})
        assert {row.tobytes() for row in novelty.directions} == {row.tobytes() for row in again.directions}


class TestSpread:
    def test_a_lone_picture_is_kept(self) -> None:
        features = np.concatenate([clusters(900), clusters(1, centre=12)])
        assert 900 in choose_spread(unit_rows(features), 20)

    def test_no_picture_is_chosen_twice(self) -> None:
        chosen = choose_spread(unit_rows(clusters(600)), 512)
        assert len(set(chosen.tolist())) == 512
