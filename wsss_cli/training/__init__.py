"""The training loop: schedule, precision, torchrun, progress, resume."""
