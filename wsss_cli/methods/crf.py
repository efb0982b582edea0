"""Dense CRF: labels that follow the edges of the photograph.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NIPS 2011; confident regions after Ahn & Kwak, "Learning Pixel-level Semantic Affinity", CVPR 2018,
sec. 3.2, and after Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with
Inter-pixel Relations", CVPR 2019, sec. 4.2.

The mean field itself runs in pydensecrf. Some inputs crash it, and the whole process with it, or
give wrong numbers; they are refused here before it is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli.classes import IGNORE
from wsss_cli.errors import ConfigurationError

Image = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]

MAX_LABELS = 255  # the numbers a label map has beside IGNORE

_TINY = 1e-5  # the smallest probability, so that its logarithm is finite
_LAST_CELL = 32_000  # the lattice has 16-bit coordinates, which wrap around silently
_LAST_INDEX = 2**31  # and 32-bit indices of its values


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The two kernels of the pairwise potential (Krähenbühl & Koltun 2011, eq. 3).

        k(f_i, f_j) = w1 exp(-|p_i - p_j|² / 2 s_a² - |I_i - I_j|² / 2 s_b²)
                    + w2 exp(-|p_i - p_j|² / 2 s_g²)

    p are positions, I colours. A weight of 0 leaves a kernel out. The defaults are those of
    AffinityNet's code.

    Attributes:
        gaussian_sxy: s_g, pixels.
        gaussian_compat: w2.
        bilateral_sxy: s_a, pixels.
        bilateral_srgb: s_b, grey levels of 255.
        bilateral_compat: w1.

    Raises:
        ValueError: a width that is not positive, a negative weight, NaN or infinity.
    """

    gaussian_sxy: float = 3
    gaussian_compat: float = 3
    bilateral_sxy: float = 80
    bilateral_srgb: float = 13
    bilateral_compat: float = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("compat") and not 0 <= value < math.inf:
                raise ValueError(f"{field.name} must be 0 or more and finite, not {value}")
            if not field.name.endswith("compat") and not 0 < value < math.inf:
                raise ValueError(f"{field.name} must be above 0 and finite, not {value}")
        self.check_reach(1, 1)

    def check_reach(self, height: int, width: int) -> None:
        """Check that an image of this size fits the lattice of the filter.

        Raises:
            ValueError: a width is too small for it.
        """
        space, colours = self.bilateral_sxy, [255 / self.bilateral_srgb] * 3
        # Largest value of each feature, under the setting that an error names. Colours alone come
        # first, so that a bad bilateral_srgb is not reported as a bad bilateral_sxy.
        features = {
            "gaussian_sxy": [width / self.gaussian_sxy, height / self.gaussian_sxy],
            "bilateral_srgb": colours,
            "bilateral_sxy": [width / space, height / space, *colours],
        }
        for name, spans in features.items():
            if _furthest_cell(spans) > _LAST_CELL:
                raise ValueError(
                    f"{name} {getattr(self, name):g} is too small for an image of {width}x{height}"
                )


def _furthest_cell(spans: Sequence[float]) -> float:
    """Largest coordinate that features from 0 to ``spans`` have in the permutohedral lattice.

    Coordinate 0 adds all scaled features, coordinate j subtracts j times feature j - 1 (Adams, Baek
    & Davis 2010, sec. 3).
    """
    unit = math.sqrt(2 / 3) * (len(spans) + 1)
    scaled = [span * unit / math.sqrt(j * (j + 1)) for j, span in enumerate(spans, start=1)]
    return max(sum(scaled), *(j * value for j, value in enumerate(scaled, start=1)))


def dense_crf(
    image: Image,
    probabilities: npt.NDArray[Any],
    steps: int = 10,
    *,
    gaussian_sxy: float = Kernels.gaussian_sxy,
    gaussian_compat: float = Kernels.gaussian_compat,
    bilateral_sxy: float = Kernels.bilateral_sxy,
    bilateral_srgb: float = Kernels.bilateral_srgb,
    bilateral_compat: float = Kernels.bilateral_compat,
) -> Scores:
    """Posterior of a fully connected CRF (Krähenbühl & Koltun 2011, algorithm 1).

    Q_i(l) ∝ p_i(l) exp(Σ_j k(f_i, f_j) Q_j(l)), repeated: Potts compatibility, unary -log p. As in
    the authors' code, and unlike the paper's formula, each kernel is normalised symmetrically,
    D^-1/2 K D^-1/2, and the sum over j includes i.

    Args:
        image: RGB, uint8 (H, W, 3).
        probabilities: of C labels, (C, H, W), not negative; they need not add up to 1.
        steps: mean-field iterations; 0 gives the normalised probabilities.
        gaussian_sxy: s_g, pixels; see :class:`Kernels` for the formula.
        gaussian_compat: w2.
        bilateral_sxy: s_a, pixels.
        bilateral_srgb: s_b, grey levels of 255.
        bilateral_compat: w1.

    Returns:
        Posterior Q, float32 (C, H, W), which adds up to 1 over C. With one label it is 1
        everywhere.

    Raises:
        ValueError: shapes that do not fit, NaN, infinite or negative values, no pixel, more than
            255 labels, or widths too small for an image of this size.
        ConfigurationError: pydensecrf is not installed.
    """
    kernels = Kernels(
        gaussian_sxy=gaussian_sxy,
        gaussian_compat=gaussian_compat,
        bilateral_sxy=bilateral_sxy,
        bilateral_srgb=bilateral_srgb,
        bilateral_compat=bilateral_compat,
    )
    _check_image(image)
    _check_maps(image, probabilities, "probabilities")
    return _Field(image, len(probabilities), kernels).posterior(probabilities, steps)


class _Field:
    """The kernels of one image, ready for the mean field.

    Building them is a fifth of the work, so several inferences on an image share them.
    """

    def __init__(self, image: Image, labels: int, kernels: Kernels) -> None:
        height, width = image.shape[:2]
        self.shape = (labels, height, width)
        kernels.check_reach(height, width)
        if not 1 <= labels <= MAX_LABELS:
            raise ValueError(f"{labels} labels; a label map holds {MAX_LABELS}")
        if 6 * height * width * labels >= _LAST_INDEX:
            raise ValueError(f"{labels} labels for {width}x{height} pixels are too much for a CRF")
        if labels == 1:
            return  # nothing to decide, and pydensecrf may crash
        self.crf = engine().DenseCRF2D(width, height, labels)
        if kernels.gaussian_compat > 0:
            self.crf.addPairwiseGaussian(sxy=kernels.gaussian_sxy, compat=kernels.gaussian_compat)
        if kernels.bilateral_compat > 0:
            self.crf.addPairwiseBilateral(
                sxy=kernels.bilateral_sxy,
                srgb=kernels.bilateral_srgb,
                rgbim=np.array(image, order="C"),
                compat=kernels.bilateral_compat,
            )

    def posterior(self, probabilities: npt.NDArray[Any], steps: int) -> Scores:
        if steps < 0:
            raise ValueError(f"steps must not be negative, not {steps}")
        if self.shape[0] == 1:
            return np.ones(self.shape, np.float32)
        shares = np.clip(probabilities.astype(np.float64), _TINY, None)
        shares /= shares.sum(0)
        unary = -np.log(shares).astype(np.float32).reshape(self.shape[0], -1)
        self.crf.setUnaryEnergy(np.ascontiguousarray(unary))
        return np.array(self.crf.inference(steps), dtype=np.float32).reshape(self.shape)


def engine() -> Any:
    """The extension module of pydensecrf, imported on first use.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ConfigurationError(
            "the CRF needs pydensecrf: pip install pydensecrf2, which needs a C compiler; "
            "'wsss crf --method pamr' refines without it"
        ) from error
    return densecrf


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")


def _check_maps(image: Image, maps: npt.NDArray[Any], name: str) -> None:
    if maps.ndim != 3 or not len(maps):
        raise ValueError(f"{name} must be (C, H, W), not {maps.shape}")
    if maps.shape[1:] != image.shape[:2]:
        raise ValueError(f"{name} are {maps.shape[1:]}, their image {image.shape[:2]}")
    if not (maps.min() >= 0 and float(maps.max()) < 1e30):  # false for NaN too
        raise ValueError(f"{name} hold NaN, infinite or negative values")


def label_probabilities(
    labels: npt.NDArray[np.uint8], *, certainty: float = 0.7, ignore: int = IGNORE
) -> tuple[Scores, list[int]]:
    """Probabilities of the labels in a label map, all pixels being equally certain of theirs.

    Args:
        labels: class numbers, uint8 (H, W).
        certainty: probability of the label that a pixel has, above 0.5 and below 1; the other
            labels share the rest evenly.
        ignore: number of pixels without a label, where the labels that some pixel has are equally
            likely; so background is not, if no pixel is known to be background.

    Returns:
        Probabilities, float32 (C, H, W), and the C class numbers in the map; background (0) is
        always among them.

    Raises:
        ValueError: certainty is not between 0.5 and 1, or no pixel has a label.
    """
    _check_certainty(certainty)
    known = set(np.unique(labels).tolist()) - {ignore}
    if not known:
        raise ValueError("no pixel of the label map is known")
    present = sorted({0, *known})
    if len(present) == 1:
        return np.ones((1, *labels.shape), np.float32), present
    probabilities = _shares(labels, np.array(present, np.uint8), certainty)
    even = np.array([number in known for number in present], np.float32) / len(known)
    probabilities[:, labels == ignore] = even[:, None]
    return probabilities, present


def _check_certainty(certainty: float) -> None:
    if not 0.5 < certainty < 1:
        raise ValueError(f"certainty must lie between 0.5 and 1, not {certainty}")


def _shares(labels: npt.NDArray[Any], numbers: npt.NDArray[Any], certainty: float) -> Scores:
    """Probabilities of class numbers (C,) with C >= 2, float32 (C, H, W), of labels (H, W)."""
    rest = (1 - certainty) / (len(numbers) - 1)
    own = labels[None] == numbers[:, None, None]
    return np.where(own, np.float32(certainty), np.float32(rest))


def background_score(cam: npt.NDArray[Any], alpha: float) -> Scores:
    """M_bg = (1 - max_c M_c) ** alpha of NumPy arrays (Ahn & Kwak 2018, eq. 2).

    A smaller alpha gives more background. :func:`wsss_cli.methods.cam.background_score` is the same
    for tensors; this module does without torch, which worker processes would have to load.

    Args:
        cam: activations in [0, 1], (C, h, w), C >= 1; rounding errors beyond are cut off.
        alpha: the exponent, > 0.

    Returns:
        Background score in [0, 1], float32 (h, w).
    """
    score: Scores = (1 - np.clip(cam.max(0).astype(np.float32), 0, 1)) ** np.float32(alpha)
    return score


def confident_regions(
    image: Image,
    cam: npt.NDArray[Any],
    low_alpha: float = 4,
    high_alpha: float = 32,
    *,
    background: npt.NDArray[Any] | None = None,
    window: int = 1,
    steps: int = 10,
    **kernels: float,
) -> npt.NDArray[np.uint8]:
    """Confident regions of the classes and of background in CAMs (Ahn & Kwak 2018, sec. 3.2).

    A dense CRF runs twice. With a low alpha the background score is amplified: pixels that go to a
    class even so are confident regions of that class. With a high alpha it is weakened: pixels that
    go to background even so are confident background. All other pixels are neutral.

    Args:
        image: RGB, uint8 (H, W, 3).
        cam: activations in [0, 1], (C, H, W); C may be 0, then all is background.
        low_alpha: exponent of the background score, > 0.
        high_alpha: the larger exponent.
        background: background score in [0, 1], (H, W), of methods with a background map of their
            own. At each pixel the scores are divided by their sum, which leaves the background a
            share b, and b ** r and b ** (1 / r) with r² = low_alpha / high_alpha take the place of
            (1 - max_c M_c) ** alpha: the exponents keep their ratio, but lie around 1.
        window: side of the square of pixels around each, over which the posterior of the CRF is
            averaged first (:func:`window_mean`). The public code of AffinityNet takes the mean over
            the 8×8 pixels of each cell of the affinity grid; here each pixel gets the label that
            a cell there would have.
        steps: mean-field iterations, at least 0.
        kernels: fields of :class:`Kernels`.

    Returns:
        uint8 (H, W): 0 background, 1 … C the classes in the order given, 255 neutral.

    Raises:
        ValueError: as :func:`dense_crf`, or low_alpha >= high_alpha, or scores above 1.
        ConfigurationError: pydensecrf is not installed.
    """
    if not 0 < low_alpha < high_alpha:
        raise ValueError(f"alphas must rise from above 0: {low_alpha}, {high_alpha}")
    checked = Kernels(**kernels)
    _check_image(image)
    if cam.ndim == 3 and not len(cam):
        return np.zeros(image.shape[:2], np.uint8)
    _check_maps(image, cam, "activations")
    if background is not None:
        _check_maps(image, background[None], "background scores")
    if cam.max() > 1 or (background is not None and background.max() > 1):
        raise ValueError("activations and background scores must lie between 0 and 1")
    cam = cam.astype(np.float32)
    if background is not None:
        total = background.astype(np.float32) + cam.sum(0)
        total[total == 0] = 1
        cam, background = cam / total, background / total
    middle = math.sqrt(low_alpha * high_alpha)
    field = _Field(image, len(cam) + 1, checked)

    def winner(alpha: float) -> npt.NDArray[np.uint8]:
        if background is None:
            score = background_score(cam, alpha)
        else:
            score = background ** np.float32(alpha / middle)
        return _winners(field, np.concatenate([score[None], cam]), steps, window)

    regions = winner(low_alpha)
    regions[regions == 0] = IGNORE
    # Last, so that background wins where the two runs contradict each other.
    regions[winner(high_alpha) == 0] = 0
    return regions


def confident_labels(
    image: Image,
    cam: npt.NDArray[Any],
    foreground: float | Scores = 0.3,
    background: float | Scores = 0.05,
    *,
    certainty: float = 0.7,
    window: int = 1,
    steps: int = 10,
    **kernels: float,
) -> npt.NDArray[np.uint8]:
    """Confident regions of the classes and of background in CAMs (Ahn, Cho & Kwak 2019, sec. 4.2).

    A dense CRF runs twice, over the labels of the pixels instead of scores. With a high threshold
    of the CAMs, few pixels begin as a class: those that are one in the end are confident. With a
    low threshold, few begin as background: those that end as background in both runs are confident
    background. All other pixels are neutral. The kernels of the authors' code are ``bilateral_sxy``
    50 and ``bilateral_srgb`` 5, the others those of :class:`Kernels`.

    SIPE's code does the same for maps with a background of their own: that takes the place of the
    high threshold, and half of it that of the low one.

    Args:
        image: RGB, uint8 (H, W, 3).
        cam: activations in [0, 1], (C, H, W); C may be 0, then all is background.
        foreground: the high threshold, up to 1; or a score of the background, (H, W).
        background: the low threshold, at least 0; or a score of the background, (H, W), nowhere
            higher than the other.
        certainty: probability of the label that a pixel begins with, above 0.5 and below 1; the
            others share the rest evenly.
        window, steps, kernels: as of :func:`confident_regions`.

    Returns:
        uint8 (H, W): 0 background, 1 … C the classes in the order given, 255 neutral.

    Raises:
        ValueError: as :func:`dense_crf`, or thresholds or certainty out of range.
        ConfigurationError: pydensecrf is not installed.
    """
    if isinstance(foreground, (int, float)) and isinstance(background, (int, float)):
        if not 0 <= background < foreground <= 1:
            raise ValueError(f"thresholds must rise within 0 and 1: {background}, {foreground}")
    elif np.any(np.less(foreground, background)):
        raise ValueError("the background must not be higher in the second run")
    _check_certainty(certainty)
    checked = Kernels(**kernels)
    _check_image(image)
    if cam.ndim == 3 and not len(cam):
        return np.zeros(image.shape[:2], np.uint8)
    _check_maps(image, cam, "activations")
    for score in (foreground, background):
        if isinstance(score, np.ndarray):
            _check_maps(image, score[None], "background scores")
    field = _Field(image, len(cam) + 1, checked)

    def winner(score: float | Scores) -> npt.NDArray[np.uint8]:
        least = np.broadcast_to(np.asarray(score, cam.dtype), (1, *image.shape[:2]))
        labels = np.concatenate([least, cam]).argmax(0)
        shares = _shares(labels, np.arange(len(cam) + 1), certainty)
        return _winners(field, shares, steps, window)

    regions = winner(foreground)
    nowhere = (regions == 0) & (winner(background) == 0)
    regions[regions == 0] = IGNORE
    regions[nowhere] = 0
    return regions


def _winners(field: _Field, scores: Scores, steps: int, window: int) -> npt.NDArray[np.uint8]:
    """The most probable of C scores after the CRF and :func:`window_mean`, uint8 (H, W)."""
    winners: npt.NDArray[np.uint8]
    winners = window_mean(field.posterior(scores, steps), window).argmax(0).astype(np.uint8)
    return winners


def window_mean(maps: Scores, window: int) -> Scores:
    """Mean of maps over a square of pixels around each pixel.

    Args:
        maps: (C, H, W).
        window: side n of the square, at least 1: the rows y - n // 2 to y - n // 2 + n - 1 of pixel
            (y, x), and likewise the columns; those outside the maps do not count.

    Returns:
        float32 (C, H, W).

    Raises:
        ValueError: window is below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    if window == 1:
        return maps
    for axis in (1, 2):
        size = maps.shape[axis]
        first = np.clip(np.arange(size) - window // 2, 0, size)
        end = np.clip(np.arange(size) - window // 2 + window, 0, size)
        sums = np.insert(np.cumsum(maps, axis, dtype=np.float64), 0, 0, axis)
        total = sums.take(end, axis) - sums.take(first, axis)
        maps = total / (end - first).reshape(-1, *[1] * (2 - axis))
    return maps.astype(np.float32)
