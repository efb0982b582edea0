"""What stands out in a photograph, found without training: contrast to the likely background.

Zhu et al., "Saliency Optimization from Robust Background Detection", CVPR 2014. A region is
background in so far as it clings to the border of the image, and salient in so far as its colour
differs from background near it. Departures from the paper: superpixels of a few rounds of k-means,
a Gaussian weight of the image's centre, and a curve that brings the best threshold to 1/2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.intp]

_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32
)
_WHITE = np.array([0.9505, 1.0, 1.089], np.float32)  # D65
_NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def background_saliency(
    image: npt.NDArray[np.uint8],
    *,
    cell: int = 16,
    sigma_colour: float = 7.0,
    sigma_boundary: float = 1.0,
    sigma_space: float = 0.25,
    sigma_centre: float = 0.25,
    midpoint: float = 0.15,
) -> npt.NDArray[np.float32]:
    """Saliency from robust background detection (Zhu et al. 2014, sec. 3 and 4).

    Args:
        image: RGB, uint8 (h, w, 3); meant for a long side of about 200 pixels.
        cell: width of a superpixel, pixels, > 0.
        sigma_colour: differences in CIE Lab that are small within a region, > 0.
        sigma_boundary: boundary connectivity up to which a region is no background, > 0.
        sigma_space: how far background is compared with, in sides of the image, > 0.
        sigma_centre: width of the weight of the image's centre, in sides of the image, > 0.
        midpoint: the share of the largest value that becomes 1/2, > 0.

    Returns:
        Saliency in [0, 1], float32 (h, w); 0 all over where nothing differs from anything.

    Raises:
        ValueError: not a colour image with pixels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"a colour image is needed, this is of shape {image.shape}")
    colours = lab(image)
    regions = superpixels(colours, cell)
    count = int(regions.max()) + 1
    height, width = regions.shape
    y, x = np.mgrid[0:height, 0:width]
    places = _means(regions, np.stack([(y + 0.5) / height, (x + 0.5) / width], -1), count)
    colour = _means(regions, colours, count)
    distances = np.sqrt(((colour[:, None] - colour) ** 2).sum(-1))
    border = np.zeros(count, bool)
    border[np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])] = True
    touching = _touching(regions, count)

    connected = _boundary_connectivity(distances, touching, border, sigma_colour)
    background = 1 - np.exp(-(connected**2) / (2 * sigma_boundary**2))  # eq. 4
    apart = ((places[:, None] - places) ** 2).sum(-1)
    near = np.exp(-apart / (2 * sigma_space**2))
    contrast = (distances * near * background).sum(1)  # eq. 5 and 6
    contrast *= np.exp(-((places - 0.5) ** 2).sum(1) / (2 * sigma_centre**2))
    smooth = _optimise(_stretch(contrast), background, distances, touching, border, sigma_colour)
    rated = _stretch(smooth) ** 2
    found: npt.NDArray[np.float32] = (rated / (rated + midpoint**2))[regions].astype(np.float32)
    return found


def lab(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """sRGB, uint8 (..., 3), as CIE Lab under D65: L in [0, 100], a and b about -100 to 100."""
    values = image.astype(np.float32) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def superpixels(
    colours: npt.NDArray[np.float32], cell: int, *, compactness: float = 20.0, rounds: int = 4
) -> Ints:
    """Regions of like colour: k-means in colour and place, from a grid of squares.

    Args:
        colours: CIE Lab, shape (h, w, 3).
        cell: width of a square of the grid, pixels.
        compactness: difference in colour that weighs as much as one ``cell`` of distance.
        rounds: of k-means; a pixel goes to its own square's region or to one of the 8 around.

    Returns:
        Number of each pixel's region, shape (h, w), without gaps from 0.
    """
    height, width, _ = colours.shape
    rows, columns = max(round(height / cell), 1), max(round(width / cell), 1)
    y, x = np.mgrid[0:height, 0:width]
    row, column = y * rows // height, x * columns // width
    weight = compactness / cell
    features = np.concatenate([colours, np.stack([y, x], -1) * weight], -1).astype(np.float32)
    regions: Ints = row * columns + column
    for _ in range(rounds):
        centres = _means(regions, features, rows * columns).astype(np.float32)
        nearest = np.full((height, width), np.inf, np.float32)
        for dy, dx in _NEIGHBOURS:
            inside = (row + dy >= 0) & (row + dy < rows) & (column + dx >= 0)
            inside &= column + dx < columns
            other = np.where(inside, (row + dy) * columns + column + dx, 0)
            difference = features - centres[other]
            distance = np.einsum("hwc,hwc->hw", difference, difference)
            closer = inside & (distance < nearest)
            nearest[closer] = distance[closer]
            regions[closer] = other[closer]
    return np.unique(regions, return_inverse=True)[1].reshape(height, width)


def _means(regions: Ints, values: Floats, count: int) -> npt.NDArray[np.float64]:
    """Mean of ``values`` (h, w, C) in each region, (count, C); far away for an empty region."""
    flat = regions.ravel()
    sizes = np.bincount(flat, minlength=count)
    channels = np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1)
    sums = np.stack([np.bincount(flat, channel, minlength=count) for channel in channels], 1)
    means = sums / np.maximum(sizes, 1)[:, None]
    means[sizes == 0] = 1e6
    return means


def _touching(regions: Ints, count: int) -> npt.NDArray[np.bool_]:
    """Which regions share an edge or a corner, (count, count), False on the diagonal."""
    touching = np.zeros((count, count), bool)
    for one, other in (
        (regions[:-1], regions[1:]),
        (regions[:, :-1], regions[:, 1:]),
        (regions[:-1, :-1], regions[1:, 1:]),
        (regions[:-1, 1:], regions[1:, :-1]),
    ):
        touching[one.ravel(), other.ravel()] = True
    touching |= touching.T
    np.fill_diagonal(touching, False)
    return touching


def _boundary_connectivity(
    distances: Floats,
    touching: npt.NDArray[np.bool_],
    border: npt.NDArray[np.bool_],
    sigma: float,
) -> Floats:
    """Length of a region's soft surroundings on the border over the root of their area (eq. 3).

    The surroundings are the regions that can be reached over small differences in colour (eq. 1);
    those of the border reach each other. Differences as small as is usual between touching regions
    count as none, as in the authors' program.
    """
    linked = touching | (border[:, None] & border)
    np.fill_diagonal(linked, False)
    steps = np.where(linked, distances, np.inf)
    least = steps.min(1, initial=np.inf)
    usual = least[np.isfinite(least)].mean() if np.isfinite(least).any() else 0.0
    reach = np.maximum(steps - usual, 0)
    np.fill_diagonal(reach, 0)
    for middle in range(len(reach)):  # Floyd and Warshall's shortest paths
        np.minimum(reach, reach[:, middle, None] + reach[middle], out=reach)
    within = np.exp(-(reach**2) / (2 * sigma**2))
    connectivity: Floats = within[:, border].sum(1) / np.sqrt(within.sum(1))
    return connectivity


def _optimise(
    contrast: Floats,
    background: Floats,
    distances: Floats,
    touching: npt.NDArray[np.bool_],
    border: npt.NDArray[np.bool_],
    sigma: float,
) -> Floats:
    """The smoothest map that is 0 on background and 1 where contrast is high (sec. 4, eq. 9).

    sum_i w_bg,i s_i^2 + sum_i w_fg,i (s_i - 1)^2 + sum_ij w_ij (s_i - s_j)^2 is least where its
    gradient, linear in s, is 0.
    """
    foreground = np.where(contrast >= _otsu(contrast), contrast, 0)
    linked = touching | (touching.astype(np.float32) @ touching > 0) | (border[:, None] & border)
    np.fill_diagonal(linked, False)
    like = np.where(linked, np.exp(-(distances**2) / (2 * sigma**2)) + 0.1, 0)
    system = np.diag(like.sum(1) + 5 * background + foreground + 1e-6) - like
    solved: Floats = np.linalg.solve(system, foreground)
    return solved


def _stretch(values: Floats) -> Floats:
    """Values from 0 to 1; 0 where all are the same."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > 1e-6 else np.zeros_like(values)


def _otsu(values: Floats) -> float:
    """The threshold in [0, 1] whose two sides differ most (Otsu 1979)."""
    counts, edges = np.histogram(values, 64, (0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    apart = (mass[-1] * below / below[-1] - mass) ** 2 / np.maximum(below * above, 1)
    return float(centres[int(apart.argmax())])
