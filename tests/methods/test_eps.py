"""The losses of EPS and EPS++ against slow loops, by hand, and on the faults of saliency maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss_cli.datasets.toy.scene import Scene, make_scene
from wsss_cli.methods.eps import (
    MEANS,
    eps_loss,
    eps_pp_loss,
    foreground_map,
    inconsistent,
    overlap,
)
from wsss_cli.methods.pamr import pamr

NAN = math.nan


def slow_eps(logits: Tensor, saliency: Tensor, labels: Tensor, tau: float, lam: float) -> float:
    """Equations 2 to 5, image by image and pixel by pixel."""
    each = []
    for n, given in enumerate(logits):
        maps, (height, width) = given.softmax(0), given.shape[1:]
        step = (saliency.shape[2] // height, saliency.shape[3] // width)
        salient = {
            (y, x): saliency[n, 0, y * step[0], x * step[1]].item()
            for y in range(height)
            for x in range(width)
        }
        known = [place for place, value in salient.items() if not math.isnan(value)]
        if not known:
            continue
        foreground, background = [], [len(maps) - 1]
        for c in range(len(maps) - 1):
            if labels[n, c] == 0:
                continue
            inside = [place for place in known if maps[c][place] > 0.5]
            shared = [place for place in inside if salient[place] > 0.5]
            (foreground if inside and len(shared) / len(inside) > tau else background).append(c)
        total = 0.0
        for place in known:
            m_fg = sum(maps[c][place].item() for c in foreground)
            m_bg = sum(maps[c][place].item() for c in background)
            total += (salient[place] - lam * m_fg - (1 - lam) * (1 - m_bg)) ** 2
        each.append(total / len(known))
    return sum(each) / len(each) if each else 0.0


def slow_over_pixels(
    logits: Tensor, saliency: Tensor, labels: Tensor, counts: Tensor, estimate: Tensor
) -> float:
    """Mean square over the pixels that count of all images together."""
    total, number = 0.0, 0
    for n in range(len(logits)):
        for y in range(logits.shape[2]):
            for x in range(logits.shape[3]):
                if counts[n, 0, y, x]:
                    total += (saliency[n, 0, y, x] - estimate[n, 0, y, x]).item() ** 2
                    number += 1
    return total / number


@pytest.mark.parametrize("variant", ["eps", "eps++"])
def test_the_mean_over_the_pixels_of_the_batch(variant: str) -> None:
    """An image counts by its pixels: here the second has fewer than half of the first's."""
    draw = torch.Generator().manual_seed(3)
    logits, saliency = (
        torch.randn(2, 3, 4, 5, generator=draw),
        torch.rand(2, 1, 4, 5, generator=draw),
    )
    saliency[1, :, :, 2:] = NAN
    labels = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    maps = logits.softmax(1)
    foreground = foreground_map(logits, labels)
    counts = ~saliency.isnan()
    if variant == "eps":
        salient = labels * (overlap(logits, saliency) > 0.4)
        chosen = (maps[:, :-1] * salient[:, :, None, None]).sum(1, keepdim=True)
        rest = (maps[:, :-1] * (labels - salient)[:, :, None, None]).sum(1, keepdim=True)
        estimate = 0.5 * chosen + 0.5 * (1 - rest - maps[:, -1:])
        result = {over: eps_loss(logits, saliency, labels, mean_over=over) for over in MEANS}
    else:
        refined = torch.rand(2, 1, 4, 5, generator=draw)
        counts &= (refined > 0.5) == (saliency > 0.5)
        estimate = foreground
        result = {
            over: eps_pp_loss(logits, refined, saliency, labels, mean_over=over) for over in MEANS
        }
    expected = slow_over_pixels(logits, saliency, labels, counts, estimate)
    assert result["pixels"].item() == pytest.approx(expected, rel=1e-5)
    assert result["images"].item() != pytest.approx(expected, rel=1e-3)
    each = [
        slow_over_pixels(
            *(part[n : n + 1] for part in (logits, saliency, labels, counts, estimate))
        )
        for n in range(2)
    ]
    assert result["images"].item() == pytest.approx(sum(each) / 2, rel=1e-5)
    nothing = torch.full_like(saliency, NAN)
    assert eps_loss(logits, nothing, labels, mean_over="pixels") == 0
    with pytest.raises(ValueError, match="a mean over images or pixels, not over rows"):
        eps_loss(logits, saliency, labels, mean_over="rows")


def slow_eps_pp(
    logits: Tensor,
    refined: Tensor,
    saliency: Tensor,
    labels: Tensor,
    above: float = 0.5,
    lam: float = 1.0,
) -> float:
    """sum (1 - N)(M_s - λ M_fg - (1 - λ)(1 - M_bg))² / |1 - N| of each image with a pixel left."""
    each = []
    for n, given in enumerate(logits):
        maps = given.softmax(0)
        classes = [c for c in range(len(maps) - 1) if labels[n, c] != 0]
        total, left = 0.0, 0
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                m_s = saliency[n, 0, y, x].item()
                m_r = sum(refined[n, c, y, x].item() for c in classes)
                if math.isnan(m_s) or (m_r < 1 - above if m_s > 0.5 else m_r > above):
                    continue
                m_fg = sum(maps[c, y, x].item() for c in classes)
                m_bg = maps[-1, y, x].item()
                total += (m_s - lam * m_fg - (1 - lam) * (1 - m_bg)) ** 2
                left += 1
        if left:
            each.append(total / left)
    return sum(each) / len(each) if each else 0.0


def halves(left: list[float], right: list[float]) -> Tensor:
    """Logits (1, C, 4, 4) whose softmax is one thing on the left and another on the right."""
    columns = [torch.tensor(left)] * 2 + [torch.tensor(right)] * 2
    return torch.stack(columns, dim=1)[:, None].expand(-1, 4, 4)[None].log()


# Left: mostly the first class; right: mostly the second; the left half is salient.
BY_HAND = halves([0.8, 0.1, 0.1], [0.1, 0.6, 0.3])
LEFT = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 4, 4)


def test_eps_by_hand() -> None:
    both, first = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    assert overlap(BY_HAND, LEFT).tolist() == [[1.0, 0.0]]
    # The second class lies where nothing is salient and goes with the background:
    # M_fg = .8 | .1 and 1 - M_bg = 1 - .2 | 1 - .9, so the estimate is .8 | .1.
    assert eps_loss(BY_HAND, LEFT, both).item() == pytest.approx((0.2**2 + 0.1**2) / 2)
    # Not labelled it is neither: 1 - M_bg = .9 | .7; with λ = 1/4 the estimate is .875 | .55.
    result = eps_loss(BY_HAND, LEFT, first, lam=0.25).item()
    assert result == pytest.approx((0.125**2 + 0.55**2) / 2)
    # Salient on the right, both are on the wrong side and the second alone is foreground.
    right = eps_loss(BY_HAND, 1 - LEFT, both).item()
    # Estimate .1 | .6 of 0 | 1.
    assert right == pytest.approx((0.1**2 + 0.4**2) / 2)
    # Overlap must exceed τ: with three of eight pixels salient the first class does not at .4.
    few = torch.zeros(1, 1, 4, 4)
    few[0, 0, :3, 0] = 1
    assert overlap(BY_HAND, few)[0].tolist() == [0.375, 0.0]
    assert eps_loss(BY_HAND, few, first) < eps_loss(BY_HAND, few, first, tau=0.3)


def test_eps_pp_by_hand() -> None:
    both = torch.tensor([[1.0, 1.0]])
    logits = halves([0.8, 0.1, 0.1], [0.1, 0.6, 0.3])
    refined = logits.softmax(1)
    # M_fg = .9 | .7, so M_r says salient everywhere and the right half is inconsistent.
    assert foreground_map(logits, both)[0, 0, 0].tolist() == pytest.approx([0.9, 0.9, 0.7, 0.7])
    dropped = inconsistent(foreground_map(logits, both), LEFT)
    assert torch.equal(dropped, LEFT == 0)
    assert eps_pp_loss(logits, refined, LEFT, both).item() == pytest.approx(0.1**2, rel=1e-5)
    # True saliency is never dropped.
    sure = eps_pp_loss(logits, refined, LEFT, both, sure=torch.tensor([True]))
    assert sure.item() == pytest.approx((0.1**2 + 0.7**2) / 2, rel=1e-5)
    # M_r is .7 from what the saliency says there: a contradiction that may be asked to be greater.
    for above, whole in ((0.69, False), (0.71, True), (1.0, True)):
        asked = eps_pp_loss(logits, refined, LEFT, both, above=above)
        assert (asked == sure) == whole
    # A class that the image does not show is no foreground: .8 | .1 against 1 | 0.
    first = eps_pp_loss(logits, refined, LEFT, torch.tensor([[1.0, 0.0]]))
    assert first.item() == pytest.approx((0.2**2 + 0.1**2) / 2, rel=1e-5)


def some(seed: int, classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, refined maps, saliency and labels of four images, some of it unknown."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, classes + 1, 5, 6, generator=draw, dtype=torch.float64)
    refined = (2 * torch.randn(4, classes + 1, 5, 6, generator=draw, dtype=torch.float64)).softmax(
        1
    )
    saliency = torch.rand(4, 1, 5, 6, generator=draw, dtype=torch.float64)
    saliency[0, :, :2], saliency[1, :, :, 3:], saliency[2] = NAN, NAN, NAN
    labels = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.float64)
    return logits, refined, saliency, labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("tau", "lam"), [(0.4, 0.5), (0.7, 0.2), (0.0, 1.0)])
def test_eps_against_slow_loops(seed: int, tau: float, lam: float) -> None:
    logits, _, saliency, labels = some(seed)
    expected = slow_eps(logits, saliency, labels, tau, lam)
    assert eps_loss(logits, saliency, labels, tau, lam).item() == pytest.approx(expected)
    large = saliency.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert eps_loss(logits, large, labels, tau, lam).item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_eps_pp_against_slow_loops(seed: int) -> None:
    logits, refined, saliency, labels = some(seed)
    expected = slow_eps_pp(logits, refined, saliency, labels)
    for above, lam in ((0.8, 1.0), (0.9, 0.5), (1.0, 0.0)):
        slow = slow_eps_pp(logits, refined, saliency, labels, above, lam)
        result = eps_pp_loss(logits, refined, saliency, labels, above=above, lam=lam)
        assert result.item() == pytest.approx(slow)
        assert slow != pytest.approx(expected)
    assert eps_pp_loss(logits, refined, saliency, labels).item() == pytest.approx(expected)
    foreground = (refined[:, :-1] * labels[:, :, None, None]).sum(1, keepdim=True)
    assert eps_pp_loss(logits, foreground, saliency, labels).item() == pytest.approx(expected)
    large = saliency.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert eps_pp_loss(logits, refined, large, labels).item() == pytest.approx(expected)


def losses(refined: Tensor, saliency: Tensor, labels: Tensor) -> list[Callable[[Tensor], Tensor]]:
    return [
        lambda logits: eps_loss(logits, saliency, labels),
        lambda logits: eps_pp_loss(logits, refined, saliency, labels),
    ]


def test_gradients() -> None:
    logits, refined, saliency, labels = some(5)
    labels[3] = NAN
    logits.requires_grad_()
    for loss in losses(refined, saliency, labels):
        assert torch.autograd.gradcheck(loss, [logits])


def test_what_is_not_known_takes_part_in_nothing() -> None:
    """Neither the maps where there is no saliency, nor an image without any."""
    logits, refined, saliency, labels = some(6)
    logits.requires_grad_()
    for loss in losses(refined, saliency, labels):
        (gradient,) = torch.autograd.grad(loss(logits), logits)
        assert gradient.isfinite().all()
        assert not gradient.transpose(0, 1)[:, saliency[:, 0].isnan()].any()
        assert gradient[0].any()
        other = logits.detach().clone()
        other.transpose(0, 1)[:, saliency[:, 0].isnan()] += 3
        assert loss(other) == loss(logits)


def test_nothing_to_learn_is_no_loss() -> None:
    logits = torch.randn(2, 3, 4, 4).requires_grad_()
    labels = torch.ones(2, 2)
    nothing = torch.full((2, 1, 4, 4), NAN)
    # M_r and M_s contradict each other at every pixel.
    against, full = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    for loss in (
        eps_loss(logits, nothing, labels),
        eps_pp_loss(logits, full, nothing, labels),
        eps_pp_loss(logits, full, against, labels),
    ):
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()
        assert not gradient.any()
    # One such image takes no weight from the other.
    half = torch.cat([full[:1], against[1:]])
    alone = eps_pp_loss(logits[:1], full[:1], full[:1], labels[:1])
    torch.testing.assert_close(eps_pp_loss(logits, full, half, labels), alone)


def test_images_without_labels() -> None:
    logits, refined, saliency, _ = some(7)
    none, unknown, every = torch.zeros(4, 3), torch.full((4, 3), NAN), torch.ones(4, 3)
    # It shows none of the classes: all that is salient is something else.
    assert not foreground_map(logits, none).any()
    # Not known which: whatever is salient is one of them.
    torch.testing.assert_close(foreground_map(logits, unknown), 1 - logits.softmax(1)[:, -1:])
    for plain, all_of_them in zip(
        losses(refined, saliency, unknown), losses(refined, saliency, every), strict=True
    ):
        assert plain(logits) == all_of_them(logits)


# ---- the faults of saliency maps -----------------------------------------------------------------

STRIDE = 4


def cells(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image[::STRIDE, ::STRIDE].astype(np.int64))


def scenes() -> Iterator[tuple[Scene, Tensor, Tensor]]:
    """Pictures of the toy set, with mask and saliency on the grid."""
    for index in range(60):
        scene = make_scene(0, "train", index, 160)
        yield scene, cells(scene.mask), cells(scene.saliency) / 255


def missing_class(mask: Tensor, salient: Tensor) -> Tensor:
    """Cells of a class of which hardly anything is salient, where another is."""
    result = torch.zeros_like(mask, dtype=torch.bool)
    seen = {int(c): salient[mask == c].float().mean() for c in mask.unique() if 0 < c < 255}
    for c, share in seen.items():
        if share < 0.1 and max(seen.values()) > 0.8:
            result |= (mask == c) & ~salient
    return result


def missing_part(mask: Tensor, salient: Tensor) -> Tensor:
    """Cells that are not salient, of classes most of which is."""
    result = torch.zeros_like(mask, dtype=torch.bool)
    for c in mask.unique():
        if 0 < c < 255 and 0.5 < salient[mask == c].float().mean() < 0.9:
            result |= (mask == c) & ~salient
    return result


def false_coverage(mask: Tensor, salient: Tensor) -> Tensor:
    """Cells of the background that are salient."""
    return (mask == 0) & salient


@pytest.mark.parametrize("fault", [missing_class, missing_part, false_coverage])
def test_what_eps_pp_drops_and_eps_does_not(fault: Callable[[Tensor, Tensor], Tensor]) -> None:
    """A network that sees every animal whole learns the fault by EPS, but not by EPS++."""
    faulty, caught = [], []
    for scene, mask, saliency in scenes():
        wrong = fault(mask, saliency > 0.5)
        if wrong.sum() < 20:
            continue
        logits, labels, image = right(scene, mask)
        grey = saliency[None, None].float()
        refined = pamr(image, logits.softmax(1))[:, :, ::STRIDE, ::STRIDE]
        dropped = inconsistent(foreground_map(refined.log(), labels), grey)[0, 0]
        faulty.append(int(wrong.sum()))
        caught.append(int(dropped[wrong].sum()))
        assert (
            dropped[~wrong & (mask < 255) & ((mask > 0) == (saliency > 0.5))].float().mean() < 0.1
        )

        # How the foreground of a cell changes by a step of gradient descent.
        for pulled, loss in (
            (True, eps_loss(logits, grey, labels)),
            (False, eps_pp_loss(logits, refined, grey, labels)),
        ):
            (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
            assert (gradient[0] != 0).any(0)[wrong & dropped].all() == pulled
            after = logits - 100 * len(mask) ** 2 * gradient
            change = (foreground_map(after, labels) - foreground_map(logits, labels))[0, 0]
            towards = change if fault is false_coverage else -change
            if fault is missing_class:  # its map goes with the background and is let be
                continue
            assert (towards[wrong & dropped].mean() > 0.01) == pulled
    # Thin parts, such as legs, are lost to the refinement too, so that nothing contradicts there.
    assert len(faulty) >= 8
    assert sum(caught) > 0.8 * sum(faulty)


def right(scene: Scene, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a network that is right and quite sure, labels, and the picture."""
    classes = int(mask[mask < 255].max())
    number = torch.where(mask == 255, 0, mask)
    hot = torch.nn.functional.one_hot(number, classes + 1).permute(2, 0, 1).float()
    logits = (3 * hot.roll(-1, 0))[None].requires_grad_()  # background last
    labels = torch.stack([(mask == c + 1).any() for c in range(classes)])[None].float()
    return logits, labels, torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()


def test_shapes_that_do_not_fit() -> None:
    logits, saliency, labels = torch.rand(2, 4, 5, 5), torch.rand(2, 1, 5, 5), torch.ones(2, 3)
    with pytest.raises(ValueError, match="labels"):
        foreground_map(logits, torch.ones(2, 4))
    with pytest.raises(ValueError, match="saliency"):
        eps_loss(logits, saliency[:1], labels)
    with pytest.raises(ValueError, match="saliency"):
        eps_pp_loss(logits, logits, saliency[:, 0], labels)
    with pytest.raises(ValueError, match="refined"):
        eps_pp_loss(logits, torch.rand(2, 4, 10, 10), saliency, labels)
