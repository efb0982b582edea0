"""Where the walk's maps lie on the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.looking import Look
from tests.tools.conftest import STILL
from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint, Maps
from wsss_cli.models.inference import Runner
from wsss_cli.models.irn import BoundaryLinks, Relations
from wsss_cli.models.networks import build_network
from wsss_cli.stage import Job
from wsss_cli.tools.random_walk import Walk, Walker


def make(max_side: int = 0, tile: int = 0, overlap: int = 0, **settings: Any) -> Walker:
    config = {"output_stride": 16}
    network = build_network("affinity", "efficientnet-lite0", ("cat",), config)
    checkpoint = Checkpoint(
        "affinity", "efficientnet-lite0", ("cat",), config, network.state_dict(), ""
    )
    runner = Runner(checkpoint, device="cpu", max_side=max_side, tile=tile, overlap=overlap)
    return Walker(runner=runner, **settings)


@pytest.mark.parametrize("max_side", [0, 80])
def test_a_cell_of_the_grid_lies_at_the_pixel_it_looks_at(max_side: int) -> None:
    """A ramp over the image is a ramp over the grid, eight pixels a cell, and comes back itself."""
    walker = make(max_side)
    height, width = 120, 160
    # As make-cam stores it: a quarter of the image's size, each value the mean of 4 x 4 pixels.
    ramp = (torch.arange(width // 4) * 4 + 1.5).expand(1, height // 4, width // 4)
    seen = walker.runner.seen_size((height, width))
    cells = (-(-seen[0] // 8), -(-seen[1] // 8))
    grid = walker.on_grid(ramp, cells, (height, width))
    shrink = width / seen[1]
    expected = (torch.arange(cells[1]) * 8 + 0.5) * shrink - 0.5
    torch.testing.assert_close(grid[0, 0, 1:-1], expected[1:-1])
    back = walker.on_image(grid, (height, width))[0, 0]
    torch.testing.assert_close(back[24:-24], torch.arange(24.0, width - 24))


def walked(walker: Walker, cam: Any, size: tuple[int, int], own: Any = None) -> Any:
    """Scores of the grey image of ``size`` with the given CAM."""
    maps = Maps(np.asarray(cam, np.float16), ("cat",) * len(cam), size, {"classes": ["cat"]})
    background = None if own is None else np.asarray(own, np.float16)
    image = np.full((*size, 3), 128, np.uint8)
    numbers = list(range(1, len(cam) + 1))
    (done,) = walker.compute([Walk(image, maps, background, numbers)])
    return done.scores


@pytest.mark.parametrize("size", [(20, 25), (40, 20), (64, 80)])
def test_an_image_smaller_than_a_network_sees_is_walked_all_the_same(size: tuple[int, int]) -> None:
    """It is seen at 33 pixels; constant maps stay as they are."""
    scores = walked(make(alpha=2), np.full((1, 5, 6), 0.25), size)
    assert scores.shape == (2, *size)
    np.testing.assert_allclose(scores[0], 0.75**2, atol=1e-3)
    np.testing.assert_allclose(scores[1], 0.25, atol=1e-3)


def test_background_walks_along_unless_it_is_a_threshold() -> None:
    cam, own = np.full((2, 12, 16), 0.25), np.full((12, 16), 0.4)
    cam[1] = 0.1
    size = (48, 64)
    np.testing.assert_allclose(walked(make(), cam, size, own)[0], 0.4, atol=1e-3)
    scores = walked(make(threshold=0.3), cam, size, own)
    np.testing.assert_allclose(scores[0], 0.3, atol=1e-6)
    np.testing.assert_allclose(scores[1:], 1, atol=1e-3)  # each divided by its maximum


def test_all_maps_are_raised_to_the_power_before_they_walk() -> None:
    cam, own, size = np.full((1, 12, 16), 0.25), np.full((12, 16), 0.4), (48, 64)
    scores = walked(make(power=1.5), cam, size, own)
    np.testing.assert_allclose(scores[:, 20, 20], [0.4**1.5, 0.25**1.5], atol=1e-3)
    assert make(power=1.5).params["power"] == 1.5


def test_without_a_class_there_is_background_only() -> None:
    scores = walked(make(), np.zeros((0, 12, 16)), (48, 64))
    assert scores.shape == (1, 48, 64)


# ---- in tiles ------------------------------------------------------------------------------------


def looking_walker(tile: int = 0, **settings: Any) -> Walker:
    """A walker whose features are colours of single pixels from 0 to 5, every eighth of them."""
    walker = make(tile=tile, overlap=64 if tile else 0, **settings)
    walker.runner.network = Look(8)  # type: ignore[assignment]
    walker.runner.mean = torch.zeros(1, 3, 1, 1)
    walker.runner.std = torch.full((1, 3, 1, 1), 0.2)
    return walker


def large(folder: Path, height: int, width: int, labels: tuple[str, ...]) -> dict[str, Any]:
    """A photograph of rough patches, and maps that are high at some places."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(1, 3, height // 40, width // 40, generator=generator)
    patches = torch.nn.functional.interpolate(patches, (height, width), mode="nearest")[0]
    pixels = (255 * patches).permute(1, 2, 0).byte().numpy()
    Image.fromarray(pixels).save(folder / "a.png")
    quarter = (-(-height // 4), -(-width // 4))
    coarse = torch.rand(1, max(len(labels), 1), 4, 7, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, quarter, mode="bicubic").clamp(0, 1)[0]
    meta = {"classes": ["cat", "cow"]}
    files.write_maps(folder / "a.npz", maps[: len(labels)].numpy(), labels, (height, width), meta)
    return {"id": "a", "image": str(folder / "a.png"), "cam": str(folder / "a.npz")}


def written(walker: Walker, record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The files of a record, as arrays."""
    folder.mkdir()
    paths = {key: folder / f"a{suffix}" for key, suffix in walker.outputs.items()}
    job = Job(record, paths, {"tool": "test"})
    (done,) = walker.compute([walker.load(job)])
    walker.save(job, done)
    assert (done.image is None) == walker.runner.in_tiles(done.maps.size)
    return {
        "pseudo": files.read_label_map(paths["pseudo"]),
        "scores": files.read_maps(paths["scores"]).cam,
        "affinity": files.read_image(paths["affinity"])[..., 0],
    }


@pytest.mark.parametrize("labels", [("cat", "cow"), ("cow",), ()])
@pytest.mark.parametrize("size", [(400, 700), (403, 701), (20, 900)])
@pytest.mark.parametrize("settings", [{"alpha": 2}, {"threshold": 0.6}, {"crf": STILL}])
def test_a_walk_over_tiles_is_the_walk_over_the_whole(
    tmp_path: Path, labels: tuple[str, ...], size: tuple[int, int], settings: dict[str, Any]
) -> None:
    """Everywhere, seams too, of features that each pixel has by itself."""
    record = large(tmp_path, max(size[0], 40), size[1], labels)
    if size[0] < 40:
        picture = Image.open(tmp_path / "a.png")
        picture.crop((0, 0, size[1], size[0])).save(tmp_path / "a.png")
        maps = files.read_maps(tmp_path / "a.npz")
        files.write_maps(tmp_path / "a.npz", maps.cam[:, :5], labels, size, maps.meta)
    stored = {"store_scores": True, "store_affinity": True, **settings}
    found = written(looking_walker(256, **stored), record, tmp_path / "tiles")
    expected = written(looking_walker(**stored), record, tmp_path / "whole")
    assert found["pseudo"].shape == size
    assert (found["pseudo"] == expected["pseudo"]).mean() > 0.999  # where scores are equal
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=2e-3)
    off = np.abs(found["affinity"].astype(int) - expected["affinity"])
    assert off.max() <= 1
    assert expected["affinity"].std() > 10
    if len(labels) > 1 and size[0] > 40:
        assert len(np.unique(expected["pseudo"])) > 1


def test_only_labels_without_more_to_store(tmp_path: Path) -> None:
    record = large(tmp_path, 400, 700, ("cat", "cow"))
    walker = looking_walker(256, alpha=2)
    (done,) = walker.compute([walker.load(Job(record, {}, {}))])
    assert (done.scores, done.affinity) == (None, None)
    stored = written(
        looking_walker(256, alpha=2, store_scores=True, store_affinity=True),
        record,
        tmp_path / "out",
    )
    np.testing.assert_array_equal(done.labels, stored["pseudo"])


def test_a_photograph_within_the_limit_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    record = large(tmp_path, 200, 256, ("cat", "cow"))
    results = []
    for walker in (looking_walker(256), looking_walker()):
        (done,) = walker.compute([walker.load(Job(record, {}, {}))])
        assert done.labels is None
        results.append(done.scores)
    np.testing.assert_array_equal(*results)


def test_affinities_must_not_reach_beyond_the_overlap() -> None:
    with pytest.raises(ConfigurationError, match="--overlap 64: the affinities reach 72 pixels"):
        looking_walker(256, radius=10)
    looking_walker(256, radius=9)
    looking_walker(radius=10)


def test_what_changes_the_result_is_in_the_provenance() -> None:
    assert make(80, alpha=4, crf={"steps": 2}).params == {
        "beta": 8,
        "steps": 256,
        "radius": 5,
        "alpha": 4,
        "exact": False,
        "max_side": 80,
        "crf": {"steps": 2},
        "classes": None,
    }
    params = make(threshold=0.2, exact=True).params
    assert (params["threshold"], params["exact"], "alpha" in params) == (0.2, True, False)


# ---- along class boundaries (IRNet) --------------------------------------------------------------


class Walls(Look):
    """A network whose boundaries are the colour red, from -4 to 4, of every fourth pixel."""

    def __init__(self) -> None:
        super().__init__(4)
        self.displaces = True

    def forward(self, images: torch.Tensor) -> Relations:  # type: ignore[override]
        cells = super().forward(images)
        return Relations(8 * cells[:, :1] - 4, cells[:, :2])


def walled_walker(tile: int = 0, **settings: Any) -> Walker:
    """A walker along the boundaries that :class:`Walls` sees."""
    walker = make(tile=tile, overlap=64 if tile else 0)
    runner = walker.runner
    runner.network = Walls()  # type: ignore[assignment]
    runner.mean, runner.std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    return Walker(runner=runner, kind=BoundaryLinks, **{"alpha": None, **settings})


def rooms() -> Any:
    """A black photograph, uint8 (64, 97, 3), with a red wall of two cells at columns 48 to 55."""
    image = np.zeros((64, 97, 3), np.uint8)
    image[:, 48:56, 0] = 255
    return image


def walked_rooms(walker: Walker, cam: Any, own: Any = None) -> Any:
    maps = Maps(np.asarray(cam, np.float16), ("cat",) * len(cam), (64, 97), {"classes": ["cat"]})
    numbers = list(range(1, len(cam) + 1))
    (done,) = walker.compute([Walk(rooms(), maps, own, numbers)])
    return done.scores


def test_a_map_fills_its_room_and_stays_in_it() -> None:
    """It walks to the wall, which it starts beyond as well, and nothing lies on the wall itself."""
    cam = np.zeros((1, 16, 25))
    cam[0, 6:10, 6:14] = 1  # up to the right edge of the wall
    scores = walked_rooms(walled_walker(beta=10), cam)
    assert (scores[0] == 0.25).all()
    labels = scores.argmax(0)
    assert labels[:, 4:44].all()
    assert not labels[:, 58:].any()
    assert scores[1, :, 49:52].max() < 0.25
    still = walked_rooms(walled_walker(steps=0), cam)
    assert still[1, 32, 50] < 0.1 < 0.9 < still[1, 32, 36]


def test_walked_maps_are_divided_by_one_maximum() -> None:
    cam = np.zeros((2, 16, 25))
    cam[0, 6:10, 4:8] = 1
    cam[1, 6:10, 18:22] = 0.2
    scores = walked_rooms(walled_walker(steps=0), cam)
    assert scores[1].max() == pytest.approx(1, abs=1e-5)
    assert scores[2].max() == pytest.approx(0.2, abs=0.01)


def test_with_irnet_background_walks_only_if_it_is_given_or_asked_for() -> None:
    cam, own = np.full((1, 16, 25), 0.3), np.full((16, 25), 0.4, np.float16)
    asked = walked_rooms(walled_walker(alpha=2), cam)
    assert asked[0, 32, 20] / asked[1, 32, 20] == pytest.approx(0.7**2 / 0.3, rel=0.01)
    given = walked_rooms(walled_walker(), cam, own)
    assert given[0, 32, 20] / given[1, 32, 20] == pytest.approx(4 / 3, rel=0.01)
    constant = walked_rooms(walled_walker(threshold=0.5), cam, own)
    assert (constant[0] == 0.5).all()


def test_only_the_boundaries_of_a_network_are_computed() -> None:
    assert walled_walker().runner.network.displaces is False


@pytest.mark.parametrize("settings", [{}, {"alpha": 2}])
def test_boundaries_of_tiles_are_those_of_the_whole(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A path may cross a seam: boundaries are blended, then linked. Overlap may be any."""
    record = large(tmp_path, 203, 401, ("cat", "cow"))
    stored = {"store_scores": True, "store_affinity": True, **settings}
    found = written(walled_walker(256, radius=9, **stored), record, tmp_path / "tiles")
    expected = written(walled_walker(radius=9, **stored), record, tmp_path / "whole")
    assert (found["pseudo"] == expected["pseudo"]).mean() > 0.999
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=2e-3)
    off = np.abs(found["affinity"].astype(int) - expected["affinity"])
    assert off.max() <= 1
    assert expected["affinity"].std() > 10


def test_the_background_of_irnet_is_in_the_provenance() -> None:
    params = walled_walker(beta=10).params
    assert (params["alpha"], params["else_threshold"], params["beta"]) == (None, 0.25, 10)
    assert "else_threshold" not in walled_walker(threshold=0.3).params
    assert "else_threshold" not in walled_walker(alpha=4).params
