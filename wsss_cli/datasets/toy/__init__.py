"""A small made-up data set in VOC's layout, hard in the ways that real data is hard.

Five animals with one kind of body, told apart for certain by the head alone, in cluttered places,
at several scales, one to three to a picture, before and behind things that are no objects but often
near them.
"""

from wsss_cli.datasets.toy.animals import CLASSES
from wsss_cli.datasets.toy.dataset import make_toy
from wsss_cli.datasets.toy.scene import SPLITS, Scene, make_scene

__all__ = ["CLASSES", "SPLITS", "Scene", "make_scene", "make_toy"]
