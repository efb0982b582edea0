"""Backbones, and one file a method: its network, and how its output is read as maps."""
