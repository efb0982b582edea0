"""wsss: weakly supervised semantic segmentation as composable command-line tools."""

__version__ = "0.1.0"
