"""Samples and their order depend on seed, epoch and record alone."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.datasets.augment import Jitter, random_view, whole_view
from wsss_cli.datasets.samples import Draw, Samples, batches, in_order, shuffled

CLASSES = ("cat", "dog", "cow")


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(5):
        size = (20 + number, 30)
        image, mask = tmp_path / f"{number}.jpg", tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
        files.write_label_map(mask, rng.integers(0, 4, size, dtype=np.uint8))
        made.append(
            {
                "id": str(number),
                "image": str(image),
                "mask": str(mask),
                "saliency": str(mask),
                "labels": ["dog", "cat"][: number % 3],
            }
        )
    return made


def make(records: list[dict[str, Any]], **settings: Any) -> Samples:
    view = partial(random_view, crop=24, long_side=(20, 40))
    return Samples(records, **{"view": view, "classes": CLASSES, "jitter": Jitter(), **settings})


def test_a_sample_depends_on_seed_epoch_and_index_alone(records: list[dict[str, Any]]) -> None:
    first = make(records)[Draw(3, 2)].image
    make(records)[Draw(0, 0)]
    assert (make(records)[Draw(3, 2)].image == first).all()
    assert (make(records)[Draw(4, 2)].image != first).any()
    assert (make(records, seed=1)[Draw(3, 2)].image != first).any()


def test_labels_become_a_vector(records: list[dict[str, Any]]) -> None:
    samples = make(records)
    assert samples[Draw(0, 0)].labels.tolist() == [0, 0, 0]
    assert samples[Draw(0, 1)].labels.tolist() == [0, 1, 0]
    assert samples[Draw(0, 2)].labels.tolist() == [1, 1, 0]
    del records[1]["labels"]
    assert np.isnan(samples[Draw(0, 1)].labels).all()


def test_the_first_label_map_key_that_is_there_is_used(records: list[dict[str, Any]]) -> None:
    other = Path(records[0]["image"]).with_name("pseudo.png")
    files.write_label_map(other, np.full((20, 30), 3, np.uint8))
    records[0]["pseudo"] = str(other)
    samples = make(records, label_map_keys=("pseudo", "mask"), view=whole_view)
    assert (samples[Draw(0, 0)].label_map == 3).all()
    assert (samples[Draw(0, 1)].label_map == files.read_label_map(records[1]["mask"])).all()


def test_what_cannot_be_read_has_an_error_and_no_effect(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    whole = Path(records[0]["image"]).read_bytes()
    broken.write_bytes(whole[: len(whole) - 200])
    records[0]["image"] = str(broken)
    sample = make(records, label_map_keys=("mask",))[Draw(0, 0)]
    assert sample.error == f"cannot read image: {broken}: truncated file"
    assert sample.image.shape == (24, 24, 3)
    assert (sample.label_map == 255).all()


def test_a_label_map_must_fit_its_image_and_the_class_list(records: list[dict[str, Any]]) -> None:
    samples = make(records, label_map_keys=("mask",), highest_label=2)
    mask = records[0]["mask"]
    assert samples[Draw(0, 0)].error == f"{mask}: class number 3, but the class list ends at 2"
    records[1]["mask"] = mask
    assert samples[Draw(0, 1)].error == f"{mask}: label map is 30x20, its image 30x21"


def test_saliency_comes_along(records: list[dict[str, Any]], tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(grey)
    records[0]["saliency"] = str(grey)
    sample = make(records, grey_key="saliency", view=whole_view)[Draw(0, 0)]
    assert sample.grey.shape == (20, 30)
    assert (sample.grey == 1).all()


def test_maps_that_a_record_does_not_have_are_not_known(records: list[dict[str, Any]]) -> None:
    for key in ("mask", "saliency"):
        del records[0][key]
    sample = make(records, label_map_keys=("mask",), grey_key="saliency")[Draw(0, 0)]
    assert not sample.error
    assert (sample.label_map == 255).all()
    assert np.isnan(sample.grey).all()


@pytest.fixture
def scored(records: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    """Their masks as pseudo-masks, with scores that are largest for the label, at its pixels."""
    for record in records[:4]:
        record["pseudo"] = record.pop("mask")
        labels = files.read_label_map(record["pseudo"])
        record["scores"] = str(tmp_path / f"{record['id']}.npz")
        shares = np.where(labels == np.arange(4)[:, None, None], 0.7, 0.1)
        files.write_maps(record["scores"], shares, ("background", *CLASSES), labels.shape, {})
        del record["labels"]
    return records


KEYS = {"label_map_keys": ("mask", "pseudo"), "soft_classes": CLASSES}


def test_scores_come_along_in_the_view_of_the_label_map(scored: list[dict[str, Any]]) -> None:
    """At the size of the photograph no pixel is a mixture."""
    view = partial(random_view, crop=24, scale=(1.0, 1.0))
    samples = make(scored, view=view, classes=None, **KEYS)
    seen = set()
    for draw in (Draw(epoch, place) for epoch in range(4) for place in range(5)):
        sample = samples[draw]
        assert sample.label_map is not None
        assert sample.soft is not None
        numbers, shares = sample.soft
        for number, plane in zip(numbers, shares, strict=True):
            known = sample.label_map != 255
            least, most = (0.1, 0.7) if draw.place < 4 else (0, 1)  # a true mask is certain
            expected = np.where(sample.label_map == number, most, least) * known
            np.testing.assert_allclose(plane, expected, atol=1e-3)
        seen.add(tuple(numbers.tolist()))
        assert sample.teaches
    assert (0, 1, 2, 3) in seen
    assert make(scored, **{**KEYS, "soft_classes": None})[Draw(0, 0)].soft is None


def test_scores_that_do_not_fit_have_an_error(scored: list[dict[str, Any]]) -> None:
    scored[0]["scores"] = scored[1]["scores"]
    sample = make(scored, classes=None, **KEYS)[Draw(0, 0)]
    assert "maps of an image of 30x21, but this one is 30x20" in sample.error
    assert sample.soft is not None
    assert not sample.soft.probabilities.any()
    assert not sample.teaches


def test_scores_of_nothing_teach_nothing(scored: list[dict[str, Any]]) -> None:
    names = ("background", *CLASSES)
    files.write_maps(scored[0]["scores"], np.zeros((4, 20, 30)), names, (20, 30), {})
    samples = make(scored, classes=None, **KEYS)
    assert not samples[Draw(0, 0)].error
    assert [samples[Draw(0, place)].teaches for place in range(2)] == [False, True]


@pytest.mark.parametrize(("length", "batch"), [(10, 3), (3, 8), (1, 2), (16, 4)])
def test_every_epoch_shows_every_record_once(length: int, batch: int) -> None:
    draws = [draw for step in shuffled([range(length)], batch=batch, steps=12) for draw in step]
    assert len(draws) == 12 * batch
    counts = Counter(draws[: len(draws) // length * length])
    assert set(counts.values()) <= {1}
    assert {draw.place for draw in draws[:length]} == set(range(length)) or batch * 12 < length


def test_an_order_can_be_entered_anywhere() -> None:
    whole = list(shuffled([range(7)], batch=3, steps=9, seed=5))
    assert list(shuffled([range(7)], batch=3, steps=9, start=4, seed=5)) == whole[4:]
    assert list(shuffled([range(7)], batch=3, steps=9, seed=6)) != whole


def test_processes_share_out_the_batch_of_one() -> None:
    whole = list(shuffled([range(11)], batch=4, steps=5))
    parts = [list(shuffled([range(11)], batch=2, steps=5, rank=rank, world=2)) for rank in range(2)]
    for step, draws in enumerate(whole):
        assert sorted(draws) == sorted(parts[0][step] + parts[1][step])


def test_groups_are_drawn_evenly_and_each_without_repeats() -> None:
    """Three of one kind and seven of the other: batches hold two of each, or as near as can be."""
    groups = [[1, 4, 9], [0, 2, 3, 5, 6, 7, 8]]
    steps = list(shuffled(groups, batch=4, steps=21, seed=3))
    assert all(sum(draw.place in groups[0] for draw in draws) == 2 for draws in steps)
    for group in groups:
        drawn = [draw for draws in steps for draw in draws if draw.place in group]
        assert len(set(drawn)) == len(drawn) == 42  # a repeat has another epoch: another view
        for start in range(0, 42, len(group)):
            part = drawn[start : start + len(group)]
            assert {draw.place for draw in part} == set(group)
            assert {draw.epoch for draw in part} == {start // len(group)}
    odd = list(shuffled(groups, batch=3, steps=20))
    shares = [sum(draw.place in groups[0] for draw in draws) for draws in odd]
    assert set(shares) == {1, 2}
    assert sum(shares) == 30


def test_groups_can_be_entered_anywhere_and_are_shared_out() -> None:
    groups = [[1, 4, 9], [0, 2, 3, 5, 6, 7, 8]]
    whole = list(shuffled(groups, batch=3, steps=9, seed=5))
    assert list(shuffled(groups, batch=3, steps=9, start=4, seed=5)) == whole[4:]
    parts = [list(shuffled(groups, batch=2, steps=21, rank=rank, world=2)) for rank in range(2)]
    for first, other in zip(*parts, strict=True):
        assert [draw.place in groups[0] for draw in first + other] == [True, False] * 2
    for group in groups:
        drawn = [d for part in parts for draws in part for d in draws if d.place in group]
        assert len(set(drawn)) == len(drawn) == 42
        assert len({draw for draw in drawn if draw.epoch == 0}) == len(group)


def test_an_epoch_shows_the_larger_group_once(records: list[dict[str, Any]]) -> None:
    assert make(records).epoch == len(records) == 5
    assert make(records, groups=[[0], [1, 2, 3, 4]]).epoch == 8


def test_samples_carry_their_weights(records: list[dict[str, Any]]) -> None:
    samples = make(records, weights=[1, 2.5, 1, 1, 1])
    assert [samples[Draw(0, place)].weight for place in (0, 1)] == [1, 2.5]
    assert make(records)[Draw(0, 1)].weight == 1


def test_a_map_of_another_size_is_remarked(records: list[dict[str, Any]], tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 15), 255, np.uint8)).save(tmp_path / "grey.png")
    records[0]["saliency"] = str(tmp_path / "grey.png")
    samples = make(records, grey_key="saliency", view=whole_view)
    assert samples[Draw(0, 0)].remark == "'saliency' of 15x10 resized to 30x20"
    assert samples[Draw(0, 1)].remark == ""


def test_in_order_covers_each_record_once() -> None:
    draws = [
        draw.place
        for rank in range(2)
        for batch in in_order(7, batch=3, rank=rank, world=2)
        for draw in batch
    ]
    assert sorted(draws) == list(range(7))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_neither_order_nor_content(
    records: list[dict[str, Any]], workers: int
) -> None:
    samples = make(records)
    order = list(shuffled([range(5)], batch=2, steps=6))
    got = list(batches(samples, iter(order), workers=workers))
    assert len(got) == 6
    for draws, loaded in zip(order, got, strict=True):
        for draw, sample in zip(draws, loaded, strict=True):
            assert (samples[draw].image == sample.image).all()


def test_draws_are_taken_only_a_little_ahead(records: list[dict[str, Any]]) -> None:
    taken = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield [Draw(0, 0)]

    stream = batches(make(records), endless(), ahead=2)
    next(stream)
    stream.close()
    assert len(taken) <= 4
