"""Class scores of a classifier, its loss, and its scores on held-out photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from wsss_cli.datasets.augment import whole_view
from wsss_cli.datasets.samples import Samples
from wsss_cli.errors import WsssError
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.cam import CamNetwork
from wsss_cli.models.device import Compute
from wsss_cli.training.batch import Batch
from wsss_cli.training.cam import (
    class_scores,
    classification_loss,
    classification_scores,
    label_advice,
    needs_labels,
)
from wsss_cli.training.distributed import Group
from wsss_cli.training.losses import multilabel_loss, squared_label_loss

ONES = torch.ones(2)


@pytest.fixture(scope="module")
def network() -> CamNetwork:
    return CamNetwork(build_backbone("efficientnet-lite0"), 3)


def batch() -> Batch:
    """Two images of 64 x 80 pixels, the second of which is padded."""
    return Batch(
        torch.zeros(2, 3, 64, 80),
        torch.ones(2),
        torch.tensor([[0, 0, 64, 80], [16, 20, 60, 80]]),
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    )


def test_scores_are_means_over_the_photograph_without_its_padding(network: CamNetwork) -> None:
    maps, data = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)), batch()
    result = class_scores(network, maps, data)
    torch.testing.assert_close(result[0], maps[0].mean((1, 2)))
    torch.testing.assert_close(result[1], maps[1, :, 1:, 2:].mean((1, 2)))
    assert data.labels is not None
    loss = classification_loss(network)(lambda images: maps, data)
    torch.testing.assert_close(loss, multilabel_loss(result, data.labels, data.weights))


@pytest.mark.parametrize("of_scores", ["soft-margin", "squared"])
def test_padding_takes_part_where_asked_for(network: CamNetwork, of_scores: str) -> None:
    maps, data = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)), batch()
    result = class_scores(network, maps, data, padding=True)
    torch.testing.assert_close(result, maps.sum((2, 3)) / 20)
    assert data.labels is not None
    measure = {"soft-margin": multilabel_loss, "squared": squared_label_loss}[of_scores]
    for padding in (True, False):
        expected = measure(class_scores(network, maps, data, padding=padding), data.labels, ONES)
        made = classification_loss(network, padding=padding, of_scores=of_scores)
        torch.testing.assert_close(made(lambda images: maps, data), expected)


class Colours(nn.Module):
    """A classifier of red, green and blue photographs, whose maps are the colours."""

    backbone = build_backbone("efficientnet-lite0")
    stride = 16

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, ::16, ::16]

    def scores(self, output: Tensor, inside: Tensor | None = None) -> Tensor:
        return output.mean((2, 3))


def test_held_out_photographs_are_scored_without_those_that_cannot_be_read(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    for number, name in enumerate(("red", "green", "blue")):
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[..., number] = 255
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        records.append({"id": name, "image": str(tmp_path / f"{name}.png"), "labels": [name]})
    records.append({"id": "gone", "image": str(tmp_path / "gone.png"), "labels": ["red"]})
    samples = Samples(records, view=whole_view, classes=("red", "green", "blue"))
    settings: dict[str, Any] = {"batch": 1, "workers": 1, "group": Group()}
    compute = Compute(torch.device("cpu"), "fp32")
    network: Any = Colours()
    measure = classification_scores(network, samples, compute=compute, **settings)
    assert measure() == {"val_map": 1, "val_f1": 1}
    wrong = [{**record, "labels": ["blue"]} for record in records[:1]]
    samples = Samples(wrong, view=whole_view, classes=("red", "green", "blue"))
    assert classification_scores(network, samples, compute=compute, **settings)()["val_f1"] == 0
    samples = Samples(records[3:], view=whole_view, classes=("red", "green", "blue"))
    assert classification_scores(network, samples, compute=compute, **settings)() == {}


def test_held_out_photographs_are_scored_like_those_to_train_on(
    network: CamNetwork, tmp_path: Path
) -> None:
    """With their padding or without."""
    seen: list[bool] = []

    class Telling(Colours):
        def scores(self, output: Tensor, inside: Tensor | None = None) -> Tensor:
            seen.append(inside is None)
            return super().scores(output, inside)

    Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
    record = {"id": "a", "image": str(tmp_path / "a.png"), "labels": ["red"]}
    samples = Samples([record], view=whole_view, classes=("red", "green", "blue"))
    telling: Any = Telling()
    for padding in (True, False):
        classification_scores(
            telling,
            samples,
            batch=1,
            workers=1,
            compute=Compute(torch.device("cpu"), "fp32"),
            group=Group(),
            padding=padding,
        )()
    assert seen == [True, False]


def test_a_record_needs_labels_of_the_class_list() -> None:
    check = needs_labels(("cat", "dog"))
    check({"labels": []})
    check({"labels": ["dog"]})
    with pytest.raises(WsssError, match="no 'labels'"):
        check({})
    with pytest.raises(WsssError, match="label 'cow' is not in the class list"):
        check({"labels": ["cow"]})


def test_labels_that_can_teach_nothing_are_told() -> None:
    classes = ["cat", "dog", "cow"]
    assert label_advice([["cat"], ["dog", "cow"], []], classes) == []
    assert label_advice([["cat"], None], classes) == []  # who knows what it shows
    assert label_advice([["cat"], ["cat", "dog"], []], classes) == [
        "no photograph shows cow: there is nothing to learn it from"
    ]
    (absent, everywhere) = label_advice([["cat"], ["cat", "cat"]], classes)
    assert absent.startswith("no photograph shows dog, cow: ")
    assert everywhere.startswith("every photograph shows cat: ")
    assert "add photographs without it" in everywhere
    many = [f"class {number}" for number in range(25)]
    (absent,) = label_advice([["cat"], []], ["cat", *many])
    assert "class 19 and 5 more: " in absent
