"""The training loop, and for each method its loss and its training run."""
