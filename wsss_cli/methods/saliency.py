"""Training-free saliency, and maps of classes weighted with any saliency.

The estimate is the contrast of image regions to the likely background.

Zhu et al., "Saliency Optimization from Robust Background Detection", CVPR 2014. Regions that are
connected to the border of the image are likely background; a region is salient if its colour
differs from background nearby. Departures from the paper: superpixels from a few rounds of k-means,
a Gaussian weight for regions near the centre of the image, and a final curve that brings the best
threshold to 1/2.

n is the number of regions (superpixels). Regions are adjacent if they share an edge or a corner.
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
        image: RGB, uint8 (h, w, 3); the defaults suit a long side of about 200 pixels.
        cell: width of a superpixel, pixels, > 0.
        sigma_colour: sigma_clr of the paper, the difference in CIE Lab up to which two colours
            count as similar, > 0.
        sigma_boundary: sigma_bndCon of the paper, the boundary connectivity up to which a region
            counts as foreground, > 0.
        sigma_space: sigma_spa of the paper, the distance up to which regions are compared, as a
            share of the image's sides, > 0.
        sigma_centre: width of the Gaussian weight around the centre, as a share of the image's
            sides, > 0.
        midpoint: the share of the largest value that becomes 1/2, > 0.

    Returns:
        Saliency in [0, 1], float32 (h, w); 0 everywhere in an image of one colour.

    Raises:
        ValueError: not a colour image, or one without pixels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"a colour image is needed, this is of shape {image.shape}")
    colours = lab(image)
    regions = superpixels(colours, cell)
    count = int(regions.max()) + 1
    height, width = regions.shape
    y, x = np.mgrid[0:height, 0:width]
    centres = _means(regions, np.stack([(y + 0.5) / height, (x + 0.5) / width], -1), count)
    colour = _means(regions, colours, count)
    distances = np.sqrt(((colour[:, None] - colour) ** 2).sum(-1))
    border = np.zeros(count, bool)
    border[np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])] = True
    adjacent = _adjacent(regions, count)

    connectivity = boundary_connectivity(distances, adjacent, border, sigma_colour)
    background = 1 - np.exp(-(connectivity**2) / (2 * sigma_boundary**2))  # w_bg
    apart = ((centres[:, None] - centres) ** 2).sum(-1)
    near = np.exp(-apart / (2 * sigma_space**2))  # w_spa
    contrast = (distances * near * background).sum(1)  # wCtr
    contrast *= np.exp(-((centres - 0.5) ** 2).sum(1) / (2 * sigma_centre**2))
    smooth = optimise(_stretch(contrast), background, distances, adjacent, border, sigma_colour)
    # A sigmoid in log(saliency). It changes no ranking, only the value of the best threshold.
    squared = _stretch(smooth) ** 2
    saliency = squared / (squared + midpoint**2)
    result: npt.NDArray[np.float32] = saliency[regions].astype(np.float32)
    return result


def lab(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """CIE Lab colours of sRGB values, under illuminant D65.

    Args:
        image: sRGB, uint8 (..., 3).

    Returns:
        float32 (..., 3): L in [0, 100], a and b about -100 to 100.
    """
    values = image.astype(np.float32) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def superpixels(
    colours: npt.NDArray[np.float32], cell: int, *, compactness: float = 20.0, rounds: int = 4
) -> Ints:
    """Regions of similar colour: k-means of colour and position, starting from a grid of squares.

    Args:
        colours: CIE Lab, shape (h, w, 3).
        cell: width of a square of the grid, pixels, > 0.
        compactness: the difference in colour that counts as much as a distance of ``cell`` pixels.
        rounds: rounds of k-means. A pixel may join the region of its own square or of the 8 around.

    Returns:
        The region of each pixel, shape (h, w), numbered from 0 without gaps.
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
    """Mean of ``values`` (h, w, C) over each region, (count, C); 1e6 for an empty region."""
    flat = regions.ravel()
    sizes = np.bincount(flat, minlength=count)
    channels = np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1)
    sums = np.stack([np.bincount(flat, channel, minlength=count) for channel in channels], 1)
    means = sums / np.maximum(sizes, 1)[:, None]
    means[sizes == 0] = 1e6  # so far from all colours that no pixel joins it
    return means


def _adjacent(regions: Ints, count: int) -> npt.NDArray[np.bool_]:
    """The pairs of regions that share an edge or a corner, (n, n), False on the diagonal."""
    adjacent = np.zeros((count, count), bool)
    for first, second in (
        (regions[:-1], regions[1:]),
        (regions[:, :-1], regions[:, 1:]),
        (regions[:-1, :-1], regions[1:, 1:]),
        (regions[:-1, 1:], regions[1:, :-1]),
    ):
        adjacent[first.ravel(), second.ravel()] = True
    adjacent |= adjacent.T
    np.fill_diagonal(adjacent, False)
    return adjacent


def boundary_connectivity(
    distances: Floats,
    adjacent: npt.NDArray[np.bool_],
    border: npt.NDArray[np.bool_],
    sigma: float,
) -> Floats:
    """Boundary connectivity of regions (sec. 3): BndCon = Len_bnd / sqrt(Area).

    Area(p) = sum_i S(p, i) over all regions i, Len_bnd(p) the same sum over those at the border.
    S(p, i) = exp(-d_geo² / 2 sigma²), where d_geo(p, i) is the least sum of colour differences
    along a path from p to i over adjacent regions; all regions at the border count as adjacent.

    Args:
        distances: differences in colour between regions, shape (n, n).
        adjacent: bool (n, n).
        border: bool (n,), the regions that touch the border of the image.
        sigma: sigma_clr, in units of ``distances``, > 0.

    Returns:
        BndCon, at least 0, shape (n,); large for background.
    """
    linked = adjacent | (border[:, None] & border)
    np.fill_diagonal(linked, False)
    steps = np.where(linked, distances, np.inf)
    # As in the authors' code, the usual difference between a region and its most similar neighbour
    # counts as none. Otherwise many small steps through a smooth gradient would add up.
    least = steps.min(1, initial=np.inf)
    usual = least[np.isfinite(least)].mean() if np.isfinite(least).any() else 0.0
    geodesic = np.maximum(steps - usual, 0)
    np.fill_diagonal(geodesic, 0)
    for middle in range(len(geodesic)):  # shortest paths by Floyd and Warshall
        np.minimum(geodesic, geodesic[:, middle, None] + geodesic[middle], out=geodesic)
    similarity = np.exp(-(geodesic**2) / (2 * sigma**2))
    connectivity: Floats = similarity[:, border].sum(1) / np.sqrt(similarity.sum(1))
    return connectivity


def optimise(
    contrast: Floats,
    background: Floats,
    distances: Floats,
    adjacent: npt.NDArray[np.bool_],
    border: npt.NDArray[np.bool_],
    sigma: float,
) -> Floats:
    """The smooth map s that is 0 on background and 1 where contrast is high (sec. 4, eq. 9).

    s minimises sum_i w_bg,i s_i² + sum_i w_fg,i (s_i - 1)² + sum_ij w_ij (s_i - s_j)² with w_ij =
    exp(-d_ij² / 2 sigma²) + 0.1 over pairs of regions that are adjacent, have an adjacent region in
    common or are both at the border. w_fg is the contrast, or 0 below Otsu's threshold. As in
    the authors' code, w_bg counts five times.

    Args:
        contrast: wCtr in [0, 1], shape (n,).
        background: w_bg in [0, 1], shape (n,).
        distances: differences in colour d between regions, shape (n, n).
        adjacent: bool (n, n).
        border: bool (n,), the regions that touch the border of the image.
        sigma: sigma_clr, in units of ``distances``, > 0.

    Returns:
        s, shape (n,).
    """
    foreground = np.where(contrast >= otsu(contrast), contrast, 0)
    linked = adjacent | (adjacent.astype(np.float32) @ adjacent > 0) | (border[:, None] & border)
    np.fill_diagonal(linked, False)
    weights = np.where(linked, np.exp(-(distances**2) / (2 * sigma**2)) + 0.1, 0)
    # The cost is least where its gradient is 0: linear equations in s, kept regular by 1e-6.
    system = np.diag(weights.sum(1) + 5 * background + foreground + 1e-6) - weights
    solution: Floats = np.linalg.solve(system, foreground)
    return solution


def _stretch(values: Floats) -> Floats:
    """Values stretched to the range from 0 to 1; all 0 if they are the same."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > 1e-6 else np.zeros_like(values)


def otsu(values: Floats) -> float:
    """The threshold that separates values best: the largest variance between classes (Otsu 1979).

    Args:
        values: in [0, 1], any shape.

    Returns:
        The threshold in [0, 1], the centre of one of 64 bins.
    """
    counts, edges = np.histogram(values, 64, (0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    variance = (mass[-1] * below / below[-1] - mass) ** 2 / np.maximum(below * above, 1)
    return float(centres[int(variance.argmax())])


def salient_scores(
    cam: npt.NDArray[Any], saliency: npt.NDArray[Any], above: float = 0.5
) -> npt.NDArray[np.float32]:
    """Scores in which saliency tells objects from background, and the maps which object it is.

    Background has the score 1 - s, a class s M_c / max_k M_k, where s is the saliency of the pixel,
    stretched on either side of ``above`` so that this becomes 1/2: the strongest class there has
    the whole of it, so that it beats the background where the saliency is larger. Where no class is
    active, all have s.

    Args:
        cam: activation maps M, at least 0, (K, h, w) with K >= 1.
        saliency: in [0, 1], (h, w).
        above: saliency from which a pixel is an object's, above 0 and below 1.

    Returns:
        float32 (1 + K, h, w) in [0, 1], background first.

    Raises:
        ValueError: shapes that do not fit, values that are negative, NaN or saliency above 1, or
            ``above`` out of its range.
    """
    if cam.ndim != 3 or not len(cam) or saliency.shape != cam.shape[1:]:
        raise ValueError(f"saliency of shape {saliency.shape} for maps of {cam.shape}")
    if not (cam >= 0).all() or not ((saliency >= 0) & (saliency <= 1)).all():
        raise ValueError("maps or saliency outside their range, or NaN")
    if not 0 < above < 1:
        raise ValueError(f"above must be between 0 and 1, not {above}")
    saliency = np.where(
        saliency < above, saliency / (2 * above), 1 - (1 - saliency) / (2 * (1 - above))
    )
    top = cam.max(0)
    share = np.divide(cam, top, out=np.ones(cam.shape, np.float32), where=top > 0)
    scores: npt.NDArray[np.float32] = np.concatenate([(1 - saliency)[None], share * saliency])
    return scores.astype(np.float32, copy=False)
