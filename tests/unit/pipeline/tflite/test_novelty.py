from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import BadArchive
from pipeline.npz import write_npz
from pipeline.tflite.novelty import DIRECTIONS, NEAREST, STEPS, Novelty, NoveltyScorer, read_novelty


def novelty_of(rows: int = 40, width: int = 8) -> Novelty:
    random = np.random.default_rng(0)
    directions = np.zeros((DIRECTIONS, width), np.uint8)
    directions[:rows] = random.integers(0, 256, (rows, width), np.uint8)
    return Novelty(directions=directions, quantiles=np.linspace(0.01, 0.4, STEPS + 1, dtype=np.float32))


def test_the_score_is_the_share_of_training_pictures_that_are_nearer() -> None:
    novelty = novelty_of()
    pooled = np.random.default_rng(1).uniform(0, 3, (50, 8)).astype(np.float32)
    rows = novelty.directions.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    expected = []
    for picture in pooled.astype(np.float64):
        cosines = rows @ picture / np.maximum(lengths, 1e-9) / np.linalg.norm(picture)
        distance = 1 - np.sort(cosines)[-NEAREST:].mean()
        expected.append(np.interp(distance, novelty.quantiles, np.linspace(0, 1, STEPS + 1)))
    assert NoveltyScorer(novelty).score(pooled) == pytest.approx(expected, abs=1e-4)


def test_it_is_zero_on_a_direction_and_one_beyond_every_training_picture() -> None:
    directions = np.zeros((DIRECTIONS, 4), np.uint8)
    directions[:NEAREST] = [255, 0, 0, 0]
    novelty = Novelty(directions=directions, quantiles=np.linspace(0.1, 0.5, STEPS + 1, dtype=np.float32))
    scores = NoveltyScorer(novelty).score(np.array([[7, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.float32))
    assert scores.tolist() == [0, 1, 1]


def test_it_does_not_depend_on_the_batch() -> None:
    scorer = NoveltyScorer(novelty_of())
    pooled = np.random.default_rng(2).uniform(0, 3, (9, 8)).astype(np.float32)
    assert scorer.score(pooled[3:4]) == pytest.approx(scorer.score(pooled)[3:4], abs=1e-5)


def test_equal_quantiles_are_no_division_by_zero() -> None:
    flat = Novelty(directions=novelty_of().directions, quantiles=np.full(STEPS + 1, 0.2, np.float32))
    scores = NoveltyScorer(flat).score(np.random.default_rng(3).uniform(0, 1, (20, 8)).astype(np.float32))
    assert np.isfinite(scores).all()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    novelty = novelty_of()
    (tmp_path / "novelty.npz").write_bytes(write_npz(novelty.arrays()))
    read = read_novelty(tmp_path / "novelty.npz")
    assert np.array_equal(read.directions, novelty.directions)
    assert np.array_equal(read.quantiles, novelty.quantiles)


def test_another_archive_is_refused(tmp_path: Path) -> None:
    arrays = {"directions": np.zeros((3, 8), np.uint8), "quantiles": np.zeros(STEPS + 1, np.float32)}
    (tmp_path / "novelty.npz").write_bytes(write_npz(arrays))
    with pytest.raises(BadArchive, match="directions"):
        read_novelty(tmp_path / "novelty.npz")
