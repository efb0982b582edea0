from __future__ import annotations

import numpy as np
import torch

from wsss_cli.datasets.samples import Sample
from wsss_cli.datasets.soft import SoftLabels
from wsss_cli.models.backbones import build_backbone
from wsss_cli.training.batch import collate


def test_a_batch_is_what_the_backbone_expects() -> None:
    backbone = build_backbone("resnet50")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    samples = [
        Sample(
            {"id": "a"},
            image,
            (0, 1, 4, 6),
            np.array([1, 0], np.float32),
            np.full((5, 7), 255, np.uint8),
            np.full((5, 7), 0.5, np.float32),
            error,
        )
        for image, error in zip(pixels, ("", "broken"), strict=True)
    ]
    batch = collate(samples, backbone=backbone, device=torch.device("cpu"))
    expected = (pixels / 255 - backbone.mean) / backbone.std
    np.testing.assert_allclose(batch.images.permute(0, 2, 3, 1), expected, atol=1e-5)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.weights.tolist() == [1, 0]
    assert batch.valid.tolist() == [[0, 1, 4, 6]] * 2
    assert batch.labels is not None
    assert batch.labels.tolist() == [[1, 0]] * 2
    assert batch.label_maps is not None
    assert batch.label_maps.dtype == torch.int64
    assert batch.grey is not None
    assert batch.grey.shape == (2, 1, 5, 7)


def test_what_samples_lack_the_batch_lacks() -> None:
    sample = Sample({"id": "a"}, np.zeros((4, 4, 3), np.uint8), (0, 0, 4, 4))
    batch = collate([sample], backbone=build_backbone("vgg16"), device=torch.device("cpu"))
    assert (batch.labels, batch.label_maps, batch.grey, batch.soft) == (None, None, None, None)


def test_soft_labels_of_fewer_classes_are_filled_up() -> None:
    """Every pixel of the batch has the probabilities that its sample has, and no more."""
    rng = np.random.default_rng(0)
    samples = []
    for numbers in ([3, 0, 1], [0], [2, 0]):
        shares = rng.random((len(numbers), 4, 5)).astype(np.float32)
        soft = SoftLabels(np.array(numbers), shares / shares.sum(0))
        pixels = np.zeros((4, 5, 3), np.uint8)
        samples.append(Sample({"id": "a"}, pixels, (0, 0, 4, 5), soft=soft))
    batch = collate(samples, backbone=build_backbone("vgg16"), device=torch.device("cpu"))
    assert batch.soft is not None
    assert batch.soft.numbers.shape == (3, 3)
    assert batch.soft.numbers.dtype == torch.int64
    for label in (0, 1, 2, 3, 255):
        found = batch.soft.of(torch.full((3, 4, 5), label))
        for sample, of_sample in zip(samples, found, strict=True):
            assert sample.soft is not None
            where = sample.soft.numbers.tolist()
            if label in where:
                expected = sample.soft.probabilities[where.index(label)]
                np.testing.assert_array_equal(of_sample, expected)
            else:
                assert not of_sample.any()
