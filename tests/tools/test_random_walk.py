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


@pytest.mark.parametrize("settings", [{"alpha": 2}, {"threshold": 0.3}])
def test_a_class_is_only_where_it_has_its_share_of_its_maximum(settings: dict[str, Any]) -> None:
    cam, size = np.random.default_rng(0).random((2, 12, 16)), (48, 64)
    cam[1] /= 4  # of a lower maximum, and to be cut relative to it
    plain = walked(make(steps=0, **settings), cam, size)
    scores = walked(make(steps=0, floor=0.7, **settings), cam, size)
    kept = plain[1:] >= 0.7 * plain[1:].max((1, 2), keepdims=True)
    assert 0.01 < kept[0].mean() < 0.9
    assert 0.01 < kept[1].mean() < 0.9
    np.testing.assert_allclose(scores[0], plain[0], atol=1e-6)
    np.testing.assert_allclose(scores[1:], np.where(kept, plain[1:], 0), atol=1e-6)
    assert "floor" not in make().params
    assert make(floor=0.7).params["floor"] == 0.7


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
@pytest.mark.parametrize(
    "settings", [{"alpha": 2}, {"threshold": 0.6}, {"floor": 0.6, "alpha": 2}, {"crf": STILL}]
)
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


# ---- instances (IRNet) ---------------------------------------------------------------------------


class Pointing(Walls):
    """Its displacements are the colours green and blue, 128 for no way, of every fourth pixel."""

    def forward(self, images: torch.Tensor) -> Relations:  # type: ignore[override]
        cells = Look.forward(self, images)
        return Relations(8 * cells[:, :1] - 4, 255 * cells[:, 1:] - 128)


def pointing_walker(tile: int = 0, max_side: int = 0, **settings: Any) -> Walker:
    """A walker along the boundaries and displacements that :class:`Pointing` sees."""
    walker = make(max_side, tile=tile, overlap=64 if tile else 0)
    runner = walker.runner
    runner.network = Pointing()  # type: ignore[assignment]
    runner.mean, runner.std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    given = {"alpha": None, "beta": 10, "instances": True, **settings}
    return Walker(runner=runner, kind=BoundaryLinks, **given)


def pointing(height: int, width: int, centres: Any) -> Any:
    """A photograph whose cells point to the nearest of some cells, half of the way."""
    y, x = np.mgrid[: -(-height // 4), : -(-width // 4)]
    away = np.stack([(y - row) ** 2 + (x - column) ** 2 for row, column in centres])
    ends = np.array(centres)[away.argmin(0)]
    colours = np.stack([0 * y, (ends[..., 0] - y) / 2 + 128, (ends[..., 1] - x) / 2 + 128], 2)
    return colours.round().astype(np.uint8).repeat(4, 0).repeat(4, 1)[:height, :width]


def made(folder: Path, walker: Walker, image: Any, cam: Any, **more: Any) -> dict[str, Any]:
    """The files of a photograph with maps of the classes ``more``, as arrays, and its objects."""
    folder.mkdir()
    Image.fromarray(image).save(folder / "a.png")
    names = more.get("names", ["cow", "cat"][: len(cam)])
    meta = {"classes": ["cat", "cow"]}
    files.write_maps(folder / "a.npz", np.asarray(cam), names, image.shape[:2], meta)
    record = {"id": "a", "image": str(folder / "a.png"), "cam": str(folder / "a.npz")}
    paths = {key: folder / f"out{suffix}" for key, suffix in walker.outputs.items()}
    job = Job(record, paths, {"tool": "test"})
    (done,) = walker.compute([walker.load(job)])
    assert (done.image is None) == walker.runner.in_tiles(done.maps.size)
    extra = walker.save(job, done)
    ids, objects = files.read_instance_map(paths["instances"], image.shape[:2])
    assert extra == walker.reused(job) == {"objects": objects}
    return {"pseudo": files.read_label_map(paths["pseudo"]), "ids": ids, "objects": objects}


def test_an_instance_is_where_the_field_points_to_one_place(tmp_path: Path) -> None:
    """Two animals of one class side by side, whose map knows no difference; one of another."""
    image = pointing(64, 96, [(8, 5), (8, 18)])
    cam = np.zeros((2, 16, 24))
    cam[0, 4:8, 2:22] = 1
    cam[1, 10:14, 2:8] = 0.9
    still = {"steps": 0, "threshold": 0.5}
    found = made(tmp_path / "a", pointing_walker(**still), image, cam)
    kinds = [(each["id"], each["class"]) for each in found["objects"]]
    assert sorted(kind for _, kind in kinds) == ["cat", "cow", "cow"]
    assert [number for number, _ in kinds] == [1, 2, 3]
    ids, pseudo = found["ids"], found["pseudo"]
    left, right, cat = ids[24, 16], ids[24, 80], ids[48, 16]
    assert len({left, right, cat, 0}) == 4
    assert (ids[22:26, 12:44] == left).all()
    assert (ids[22:26, 50:84] == right).all()
    assert ((ids > 0) == (pseudo > 0)).all()
    assert (pseudo[ids == left] == 2).all()  # cow is the second of the list
    assert (pseudo[ids == cat] == 1).all()
    assert found["objects"][cat - 1]["class"] == "cat"
    assert found["objects"][cat - 1]["score"] == pytest.approx(0.9, abs=0.01)
    alone = made(tmp_path / "b", pointing_walker(**still), pointing(64, 96, [(8, 12)]), cam)
    assert [each["class"] for each in alone["objects"]] == ["cow", "cat"]


def test_each_object_walks_alone(tmp_path: Path) -> None:
    """The map of one of two animals walks to its walls, and not as far as the sum of both."""
    image = pointing(64, 96, [(8, 5), (8, 18)])
    image[:, 44:52, 0] = 255  # a wall between them
    cam = np.zeros((1, 16, 24))
    cam[0, 6:10, 4:8] = cam[0, 6:10, 16:20] = 1
    found = made(tmp_path / "a", pointing_walker(), image, cam)
    assert len(found["objects"]) == 2
    assert len(np.unique(found["ids"][:, 4:40])) == 1
    assert len(np.unique(found["ids"][:, 60:92])) == 1
    assert found["ids"][30, 20] != found["ids"][30, 76]


def test_small_pieces_are_of_no_instance_but_keep_their_class(tmp_path: Path) -> None:
    cam = np.zeros((1, 16, 24))
    cam[0, 4:12, 2:10] = 1
    cam[0, 2, 20] = 1
    walker = pointing_walker(steps=0, threshold=0.3)
    found = made(tmp_path / "a", walker, pointing(64, 96, [(8, 12)]), cam)
    assert [each["id"] for each in found["objects"]] == [1]
    assert found["ids"][9, 81] == 255
    assert found["pseudo"][9, 81] == 2
    assert np.unique(found["ids"]).tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("cam", "names"), [(np.zeros((0, 16, 24)), []), (np.zeros((1, 16, 24)), ["cow"])]
)
@pytest.mark.parametrize("tile", [0, 256])
def test_without_an_object_the_map_is_empty(
    tmp_path: Path, cam: Any, names: list[str], tile: int
) -> None:
    image = pointing(64, 96, [(8, 12)])
    if tile:
        image, cam = np.tile(image, (1, 4, 1)), np.tile(cam, (1, 1, 4))
    found = made(tmp_path / "a", pointing_walker(tile), image, cam, names=names)
    assert not found["ids"].any()
    assert not found["pseudo"].any()
    assert found["objects"] == []


@pytest.mark.parametrize("more", [{}, {"alpha": 2}, {"alpha": 2, "floor": 0.4}, {"crf": STILL}])
def test_instances_of_tiles_are_those_of_the_whole(tmp_path: Path, more: dict[str, Any]) -> None:
    settings = {"steps": 4, **more}
    centres = [(20, 15), (25, 44), (20, 70), (45, 92)]
    image = pointing(203, 401, centres)
    y, x = np.mgrid[:51, :101]
    near = [np.exp(-((y - row) ** 2 + (x - column) ** 2) / 150) for row, column in centres]
    cam = [np.maximum(near[0], near[1]), np.maximum(0.8 * near[2], 0.7 * near[3])]
    tiled = made(tmp_path / "tiles", pointing_walker(256, **settings), image, cam)
    whole = made(tmp_path / "whole", pointing_walker(**settings), image, cam)
    assert [each["class"] for each in whole["objects"]] == ["cow", "cow", "cat", "cat"]
    assert [each["class"] for each in tiled["objects"]] == ["cow", "cow", "cat", "cat"]
    assert (tiled["pseudo"] == whole["pseudo"]).mean() > 0.999
    # Equal scores may swap their ids.
    pairs, counts = np.unique(tiled["ids"].astype(int) * 256 + whole["ids"], return_counts=True)
    assert counts[np.argsort(-counts)[:5]].sum() > 0.999 * counts.sum()
    assert len({pair // 256 for pair in pairs[np.argsort(-counts)[:5]]}) == 5


def test_a_smaller_view_has_its_instances_at_the_photographs_size(tmp_path: Path) -> None:
    cam = np.zeros((1, 16, 24))
    cam[0, 4:12, 2:22] = 1
    image = pointing(64, 96, [(8, 12)])
    walker = pointing_walker(max_side=48, steps=0, threshold=0.5)
    found = made(tmp_path / "a", walker, image, cam)
    assert found["ids"].shape == (64, 96)
    assert ((found["ids"] > 0) == (found["pseudo"] > 0)).all()


def test_instances_need_a_field_and_are_in_the_provenance() -> None:
    assert pointing_walker().params["instances"] is True
    assert "instances" not in walled_walker().params
    assert pointing_walker().runner.network.displaces is True
    with pytest.raises(ConfigurationError, match="has no displacement field"):
        make(instances=True)
