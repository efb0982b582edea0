"""A small synthetic data set in VOC's layout, with the difficulties of real data.

Each picture shows one to three animals of five classes, at several scales, in a cluttered
landscape. All classes have the same body and differ reliably only in the head. Props (stones,
bushes …) that belong to no class lie behind and in front of the animals; each class is often near
the same prop.
"""

from wsss_cli.datasets.toy.animals import CLASSES
from wsss_cli.datasets.toy.dataset import make_toy
from wsss_cli.datasets.toy.scene import SPLITS, Scene, make_scene

__all__ = ["CLASSES", "SPLITS", "Scene", "make_scene", "make_toy"]
