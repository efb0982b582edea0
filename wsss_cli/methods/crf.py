"""Dense CRF: labels that follow the edges of the photograph.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NIPS 2011; confident regions after Ahn & Kwak, CVPR 2018, sec. 3.2.

The mean field runs in pydensecrf, which answers some input with a crash of the whole process; all
that is checked here before it is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]

_TINY = 1e-5  # probability of the impossible: its logarithm must be finite


def dense_crf(
    image: Image,
    probabilities: npt.NDArray[Any],
    steps: int = 10,
    *,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 80,
    bilateral_srgb: float = 13,
    bilateral_compat: float = 10,
) -> Scores:
    """Posterior of a fully connected CRF with a smoothness and an appearance kernel (eq. 3).

    k(f_i, f_j) = w1 exp(-|p_i - p_j|² / 2 s_a² - |I_i - I_j|² / 2 s_b²) + w2 exp(-|p_i - p_j|² / 2
    s_g²), Potts compatibility, kernels normalised symmetrically.

    Args:
        image: RGB, uint8 (H, W, 3).
        probabilities: of C labels, (C, H, W), not negative; normalised over C here.
        steps: mean-field iterations.
        gaussian_sxy: s_g, pixels.
        gaussian_compat: w2.
        bilateral_sxy: s_a, pixels.
        bilateral_srgb: s_b, grey levels of 255.
        bilateral_compat: w1.

    Returns:
        Posterior, float32 (C, H, W), adding up to 1 over C. With one label it is 1 everywhere.

    Raises:
        ValueError: shapes that do not fit, NaN or negative values, or a width that is not positive.
    """
    _check(image, probabilities)
    widths = {
        "gaussian_sxy": gaussian_sxy, "bilateral_sxy": bilateral_sxy,
        "bilateral_srgb": bilateral_srgb,
    }  # fmt: skip
    for name, value in widths.items():
        if not 0.01 <= value < 1e6:  # beyond, the lattice's integer coordinates overflow
            raise ValueError(f"{name} must lie between 0.01 and 1e6, not {value}")
    if steps < 0 or gaussian_compat < 0 or bilateral_compat < 0:
        raise ValueError("steps and compatibilities must not be negative")
    count, height, width = probabilities.shape
    if count == 1:
        return np.ones((1, height, width), np.float32)
    from pydensecrf import densecrf

    given = np.clip(probabilities.astype(np.float32), _TINY, None)
    given /= given.sum(0)
    crf = densecrf.DenseCRF2D(width, height, count)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(given).reshape(count, -1)))
    if gaussian_compat > 0:
        crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    if bilateral_compat > 0:
        crf.addPairwiseBilateral(
            sxy=bilateral_sxy, srgb=bilateral_srgb, compat=bilateral_compat,
            rgbim=np.array(image, order="C"),
        )  # fmt: skip
    posterior = np.array(crf.inference(steps), dtype=np.float32).reshape(count, height, width)
    return posterior


def _check(image: Image, probabilities: npt.NDArray[Any]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if probabilities.ndim != 3 or not len(probabilities):
        raise ValueError(f"probabilities must be (C, H, W), not {probabilities.shape}")
    if len(probabilities) > 255:
        raise ValueError(f"{len(probabilities)} labels; a label map holds 255")
    if probabilities.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"probabilities are {probabilities.shape[1:]}, their image {image.shape[:2]}"
        )
    if not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise ValueError("probabilities hold NaN, infinite or negative values")


def label_probabilities(
    labels: npt.NDArray[np.uint8], *, certainty: float = 0.7, ignore: int = 255
) -> tuple[Scores, list[int]]:
    """Probabilities that express trust in a label map, for the labels present in it.

    Args:
        labels: class numbers, uint8 (H, W).
        certainty: probability of a pixel's own label; the others share the rest.
        ignore: pixels with this number say nothing: all labels are equally likely there.

    Returns:
        Probabilities, float32 (C, H, W), and the C class numbers; background (0) is always one.
    """
    if not 0 < certainty < 1:
        raise ValueError(f"certainty must lie between 0 and 1, not {certainty}")
    present = sorted({0, *np.unique(labels).tolist()} - {ignore})
    if len(present) == 1:
        return np.ones((1, *labels.shape), np.float32), present
    rest = (1 - certainty) / (len(present) - 1)
    own = labels[None] == np.array(present, np.uint8)[:, None, None]
    probabilities = np.where(own, certainty, rest).astype(np.float32)
    probabilities[:, labels == ignore] = 1 / len(present)
    return probabilities, present


def with_background(cam: npt.NDArray[Any], alpha: float) -> Scores:
    """CAMs with their background score (1 - max_c M_c)^alpha in front: (C + 1, H, W)."""
    cam = cam.astype(np.float32)
    background = (1 - np.clip(cam.max(0), 0, 1)) ** alpha
    return np.concatenate([background[None], cam])


def confident_regions(
    image: Image,
    cam: npt.NDArray[Any],
    low_alpha: float = 4,
    high_alpha: float = 32,
    *,
    background: npt.NDArray[Any] | None = None,
    **crf: Any,
) -> npt.NDArray[np.uint8]:
    """Where CAMs can be trusted (Ahn & Kwak 2018, sec. 3.2).

    A low alpha amplifies the background score: what is a class even then is a confident class. A
    high alpha weakens it: what is background even then is confident background. The rest is
    neutral, and so is what the first takes for one class and the second for another.

    Args:
        image: RGB, uint8 (H, W, 3).
        cam: activations in [0, 1], (C, H, W); C may be 0, then all is background.
        low_alpha: exponent of the background score, > 0.
        high_alpha: the larger exponent.
        background: the method's own background score in [0, 1], (H, W), where it has one; it takes
            the place of (1 - max_c M_c) as the base of both powers, the exponents' ratio kept.
        crf: settings of :func:`dense_crf`.

    Returns:
        uint8 (H, W): 0 background, 1 … C the classes in the order given, 255 neutral.

    Raises:
        ValueError: as :func:`dense_crf`, or low_alpha >= high_alpha.
    """
    if not 0 < low_alpha < high_alpha:
        raise ValueError(f"alphas must rise from above 0: {low_alpha}, {high_alpha}")
    if cam.ndim != 3:
        raise ValueError(f"cam must be (C, H, W), not {cam.shape}")
    if not len(cam):
        return np.zeros(image.shape[:2], np.uint8)
    _check(image, cam)
    found = []
    for alpha in (low_alpha, high_alpha):
        if background is None:
            scores = with_background(cam, alpha)
        else:
            # alpha 4 leaves strong, alpha 32 weak background: powers around the map itself.
            power = alpha / (low_alpha * high_alpha) ** 0.5
            scores = np.concatenate([background[None] ** power, cam]).astype(np.float32)
        found.append(dense_crf(image, scores, **crf).argmax(0).astype(np.uint8))
    sure_class, sure_background = found
    result = np.where(sure_class == 0, 255, sure_class)
    result[sure_background == 0] = 0
    result[(sure_class > 0) & (sure_background > 0) & (sure_class != sure_background)] = 255
    return result.astype(np.uint8)
