"""The training loop and what it needs, and one file a method: what its network learns."""
