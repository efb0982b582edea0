"""Positions and values on grids against plain resizing and loops; means over views."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wsss_cli.methods.grids import Places, average_views, on_finer, on_image, places, sample, vote

# ---- from one grid to another --------------------------------------------------------------------


def test_whole_places_are_the_pixels_themselves() -> None:
    maps = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    result = sample(maps, torch.tensor([0, 4, 2]), torch.tensor([6, 1]))
    torch.testing.assert_close(result, maps[:, :, [0, 4, 2]][..., [6, 1]])


def test_a_ramp_is_read_between_its_pixels_and_kept_beyond_its_edge() -> None:
    ramp = torch.arange(6.0, dtype=torch.float64).expand(1, 1, 4, 6)
    result = sample(ramp, torch.tensor([1.3]), torch.tensor([-2.0, 0.25, 3.5, 9.0]))
    torch.testing.assert_close(result[0, 0, 0], torch.tensor([0, 0.25, 3.5, 5]).double())


def test_resizing_is_sampling_at_the_centres_of_larger_pixels() -> None:
    maps = torch.randn(1, 2, 4, 5)
    rows, columns = (torch.arange(12) + 0.5) / 3 - 0.5, (torch.arange(10) + 0.5) / 2 - 0.5
    expected = functional.interpolate(maps, (12, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(sample(maps, rows, columns), expected)


def test_places_go_there_and_back() -> None:
    there = places(7, 100, 250, stride=16)  # cells at pixels 0, 16 … of 100, on 250 pixels
    torch.testing.assert_close(there, (torch.arange(7) * 16 + 0.5) * 2.5 - 0.5)
    back = places(250, 250, 100, onto_stride=16)
    for cell, pixel in enumerate(there):
        below = int(pixel)
        share = pixel - below
        result = back[below] * (1 - share) + back[min(below + 1, 249)] * share
        torch.testing.assert_close(result, torch.tensor(float(cell)), atol=1e-4, rtol=0)


def test_a_finer_grid_of_one_network_starts_at_the_same_pixel() -> None:
    maps = torch.randn(2, 3, 4, 5)
    result = on_finer(maps, (7, 10), 2.0)
    torch.testing.assert_close(result[:, :, ::2, ::2], maps)
    torch.testing.assert_close(result[:, :, 1, 0], (maps[:, :, 0, 0] + maps[:, :, 1, 0]) / 2)
    torch.testing.assert_close(result[:, :, 0, 9], maps[:, :, 0, 4])  # beyond the last cell
    half = maps.to(torch.bfloat16)
    assert on_finer(half, (7, 10), 2.0).dtype == torch.bfloat16
    assert on_finer(maps, (4, 5), 1) is maps


def test_a_mirrored_view_lies_on_the_image_as_the_plain_one() -> None:
    """Cells of a network that returns the colour of the pixel they look at: both give the image."""
    image = torch.arange(33.0)[None, None, None].expand(1, 1, 33, 33)  # whole strides and one pixel
    plain, mirrored = image[..., ::8, ::8], image.flip(-1)[..., ::8, ::8]
    size = (33, 33)
    torch.testing.assert_close(on_image(plain, size, size, 8), image)
    torch.testing.assert_close(on_image(mirrored, size, size, 8, mirrored=True), image)


# ---- means over views ----------------------------------------------------------------------------


def test_the_mean_of_maps_turned_back() -> None:
    """Without relu and maximum, which are of :func:`wsss_cli.methods.cam.fuse`."""
    torch.manual_seed(0)
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    torch.testing.assert_close(average_views([a, b], (4, 5), [False, True]), (a + b.flip(-1)) / 2)


def test_the_mean_of_probabilities_turned_back() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    expected = (a.softmax(0) + b.flip(-1).softmax(0)) / 2
    torch.testing.assert_close(vote([a, b], (4, 5), [False, True]), expected)


def test_scales_are_brought_to_one_size_and_probabilities_add_up() -> None:
    torch.manual_seed(0)
    result = vote([torch.randn(4, 3, 5), torch.randn(4, 6, 10)], (24, 40), [False, False])
    assert result.shape == (4, 24, 40)
    torch.testing.assert_close(result.sum(0), torch.ones(24, 40))


@pytest.mark.parametrize(("maps", "flags"), [([], []), ([torch.zeros(2, 3, 3)], [])])
def test_flags_and_logits_must_match(maps: list[torch.Tensor], flags: list[bool]) -> None:
    with pytest.raises(ValueError, match="flags"):
        vote(maps, (3, 3), flags)


@pytest.mark.parametrize("mirrored", [False, True])
def test_places_of_an_image_have_the_values_that_all_pixels_have(mirrored: bool) -> None:
    maps = torch.rand(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    every = on_image(maps, (50, 67), (100, 134), 16, mirrored=mirrored)
    some = Places(torch.arange(3, 40, 5), torch.tensor([66, 0, 12]), (50, 67))
    found = on_image(maps, some, (100, 134), 16, mirrored=mirrored)
    torch.testing.assert_close(found, every[:, :, 3:40:5][..., [66, 0, 12]], atol=1e-5, rtol=0)
    between = Places(torch.tensor([0.5]), torch.tensor([7.0]), (50, 67))
    half = on_image(maps, between, (100, 134), 16, mirrored=mirrored)[0, :, 0, 0]
    torch.testing.assert_close(half, every[0, :, :2, 7].mean(1), atol=1e-5, rtol=0)
