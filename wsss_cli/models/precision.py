"""Where and how precisely a network computes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from wsss_cli.errors import ConfigurationError

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Attributes:
        device: the device.
        precision: fp32, bf16 or fp16. Weights are fp32 always; with the other two the layers that
            bear it are computed in the shorter type.
    """

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[object]:
        """Within it, layers compute at this precision."""
        return torch.autocast(
            self.device.type, _TYPES[self.precision], enabled=self.precision != "fp32"
        )

    @property
    def needs_scaler(self) -> bool:
        """Whether small gradients would vanish without scaling the loss up (fp16)."""
        return self.precision == "fp16"


def choose(device: str = "auto", precision: str = "auto", *, local_rank: int = 0) -> Compute:
    """The device and precision that the options mean.

    Args:
        device: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.
        precision: auto (bf16 where the device computes in it, else fp32), fp32, bf16 or fp16.
        local_rank: the CUDA device to take where none is named.

    Raises:
        ConfigurationError: this machine has no such device, or it lacks the precision.
    """
    if device == "auto":
        cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        device = "cuda" if cuda else "mps" if mps else "cpu"
    if device == "cuda":
        device = f"cuda:{local_rank}"
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"--device {device}: this machine has no such device")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigurationError("--device mps: this machine has no such device")
    if precision == "auto":
        precision = "bf16" if _computes_bf16(chosen) else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise ConfigurationError("--precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    return Compute(chosen, precision)


def _computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16, so that it is faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
