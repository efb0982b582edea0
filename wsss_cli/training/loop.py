"""The training loop that all trainers share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsss_cli import console, files
from wsss_cli.datasets.samples import Sample, Samples, batches, shuffled
from wsss_cli.errors import WsssError
from wsss_cli.models.base import Network
from wsss_cli.models.batchnorm import freeze_batchnorm
from wsss_cli.models.device import Compute
from wsss_cli.training import resume
from wsss_cli.training.batch import Batch, collate
from wsss_cli.training.distributed import Group
from wsss_cli.training.interrupt import Interrupt, postponed
from wsss_cli.training.log import MetricsLog
from wsss_cli.training.plot import plot_metrics
from wsss_cli.training.schedule import poly

# The loss of a batch, or its parts by name, whose sum it is; each is logged as loss_NAME.
Loss = Callable[[Callable[[Tensor], Any], Batch], Tensor | dict[str, Tensor]]
Validate = Callable[[], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a network is trained. Each of these changes the result.

    Attributes:
        epochs: passes over the records.
        batch_size: samples a step, on each process.
        lr: learning rate of the backbone at the start.
        new_lr: how many times as large that of new layers is.
        momentum: momentum of stochastic gradient descent.
        weight_decay: weight decay, of all weights.
        power: exponent of the poly schedule.
        warmup: steps over which the learning rate grows at the start.
        clip: longest gradient (2-norm over all weights) that is followed as it is.
        freeze_bn: keep the batch normalisation of the backbone as it is.
        seed: seed of all chance.
    """

    epochs: int
    batch_size: int
    lr: float
    new_lr: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    power: float = 0.9
    warmup: int = 0
    clip: float = 10.0
    freeze_bn: bool = True
    seed: int = 0


@dataclass
class _State:
    """Where a run is, apart from its weights."""

    step: int = 0
    validated: int = 0  # epochs whose end has been dealt with
    loss_sum: float = 0.0  # since the last line of the log
    part_sums: dict[str, float] = field(default_factory=dict)  # of a loss with parts
    loss_count: int = 0
    last_loss: float = math.nan  # the last line's
    log_position: int = 0
    unreadable: list[str] = field(default_factory=list)  # ids


class Trainer:
    """One training run, from the first step or from where it was interrupted to the checkpoint.

    Args:
        tool: name of the command, for messages.
        network: the network.
        samples: what it is trained on.
        loss: the loss of a batch, given the network (wrapped for several processes) and the batch.
        plan: how it is trained.
        compute: on what, and how precisely.
        group: the processes that train together.
        out: the checkpoint to write.
        checkpoint: what the checkpoint says beside the weights: kind, backbone, classes, config.
        run: what makes this run this run (:func:`resume.identity`).
        workers: threads that load samples.
        validate: measures the network, at the end of each epoch; None does not.
        save_every: steps between states saved within an epoch; 0 saves at its end only.
        strict: stop at the first sample that cannot be read.
    """

    def __init__(
        self,
        tool: str,
        *,
        network: Network,
        samples: Samples,
        loss: Loss,
        plan: Plan,
        compute: Compute,
        group: Group,
        out: Path,
        checkpoint: Mapping[str, Any],
        run: Mapping[str, Any],
        workers: int = 2,
        validate: Validate | None = None,
        save_every: int = 0,
        strict: bool = False,
    ) -> None:
        self.tool = tool
        self.network = network
        network.to(compute.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.samples = samples
        self.loss = loss
        self.plan = plan
        self.compute = compute
        self.group = group
        self.out = out
        self.checkpoint = checkpoint
        self.run_identity = {**run, **asdict(plan), "processes": group.world}
        self.workers = max(1, workers)
        self.validate = validate
        self.save_every = save_every
        self.strict = strict

        if plan.freeze_bn:
            freeze_batchnorm(self.network.backbone)
        self.state_path = resume.state_path(out)
        self.log_path = out.with_name(out.stem + ".log.jsonl")
        self.step_size = plan.batch_size * group.world
        self.steps = math.ceil(plan.epochs * samples.epoch / self.step_size)
        # At least one line an epoch, and no more than a plot can show.
        self.log_every = max(1, min(50, self.steps // 100, samples.epoch // self.step_size))
        self.state = _State()
        self.remarked = False
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.needs_scaler)

    def run(self, *, resume: bool = False) -> list[str]:
        """Train and write the checkpoint.

        Args:
            resume: take up an interrupted run of the same settings and records, if there is one.

        Returns:
            The ids of records that could not be read and were left out.

        Raises:
            ConfigurationError: there is something to resume, but of another run.
            WsssError: the loss is not finite, or nothing can be written.
        """
        if resume and self.group.on_main(self._finished):
            console.note(self.tool, f"{self.out}: finished already")
            return []
        if resume:
            self._restore(self.group.on_main(self._load))
        elif self.group.main and self.state_path.exists():
            console.note(
                self.tool, f"{self.state_path}: not resumed without --resume; starting anew"
            )
        with postponed() as interrupt:
            try:
                self._train(interrupt)
            except (KeyboardInterrupt, RuntimeError):
                # With several processes, another that was told to stop first breaks our step.
                if interrupt.asked is None or interrupt.insisted:
                    raise
                self._leave(interrupt)
        self.group.on_main(self._finish)
        return [name for names in self.group.gather(self.state.unreadable) for name in names]

    # ---- the steps ----

    def _train(self, interrupt: Interrupt) -> None:
        """All steps that are left, and the end of each epoch."""
        state, plan = self.state, self.plan
        network = self._wrapped()
        draws = shuffled(
            self.samples.groups,
            batch=plan.batch_size,
            steps=self.steps,
            start=state.step,
            seed=plan.seed,
            rank=self.group.rank,
            world=self.group.world,
        )
        path = self.log_path if self.group.main else None
        with (
            MetricsLog(path, state.log_position) as log,
            console.progress(
                self.tool, total=self.steps * self.step_size, initial=state.step * self.step_size
            ) as bar,
            closing(batches(self.samples, draws, workers=self.workers)) as loading,
        ):
            self.network.train()
            self._end_epochs(log, interrupt)
            since, done = time.monotonic(), state.step
            for loaded in loading:
                self._name_unreadable(loaded)
                self._tell_remark(loaded)
                lr = plan.lr * poly(state.step, self.steps, power=plan.power, warmup=plan.warmup)
                state.loss_sum += self._step(network, loaded, lr)
                state.loss_count += 1
                state.step += 1
                if not math.isfinite(state.loss_sum):
                    raise WsssError(self._diverged(lr))
                mean = state.loss_sum / state.loss_count
                bar.update(self.step_size, loss=f"{mean:.4f}", lr=f"{lr:.2g}")
                if state.step % self.log_every == 0 or state.step == self.steps:
                    rate = (state.step - done) * self.step_size / (time.monotonic() - since)
                    parts = {
                        f"loss_{name}": total / state.loss_count
                        for name, total in state.part_sums.items()
                    }
                    self._log(log, loss=mean, **parts, lr=lr, images_per_second=rate)
                    state.loss_sum, state.loss_count, state.last_loss = 0.0, 0, mean
                    state.part_sums = {}
                    since, done = time.monotonic(), state.step
                ended = self._end_epochs(log, interrupt)
                if interrupt.asked is not None:
                    self._leave(interrupt)
                if ended or (self.save_every and state.step % self.save_every == 0):
                    self._save_state()
                    since, done = time.monotonic(), state.step  # the rate is that of training

    def _step(self, network: nn.Module, loaded: list[Sample], lr: float) -> float:
        """One step of gradient descent; the loss, or NaN if its gradient is not finite."""
        # Dropout and the like depend on the step alone, so nothing of chance needs to be stored.
        chance = np.random.SeedSequence([self.plan.seed, self.state.step, self.group.rank])
        torch.manual_seed(int(chance.generate_state(1, np.uint64)[0]))
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr * settings["times"]
        batch = collate(loaded, backbone=self.network.backbone, device=self.compute.device)
        batch = replace(batch, progress=self.state.step / self.steps)
        with self.compute.autocast():
            found = self.loss(network, batch)
            parts = found if isinstance(found, dict) else {}
            loss = torch.stack([*parts.values()]).sum() if isinstance(found, dict) else found
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        length = nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for name, part in parts.items():
            self.state.part_sums[name] = self.state.part_sums.get(name, 0.0) + part.item()
        # The scaler itself leaves out steps whose gradient overflows.
        return loss.item() if self.scaler.is_enabled() or length.isfinite() else math.nan

    def _end_epochs(self, log: MetricsLog, interrupt: Interrupt) -> bool:
        """Measure the network if an epoch ended; whether one did."""
        ended = min(self.state.step * self.step_size // self.samples.epoch, self.plan.epochs)
        if ended <= self.state.validated:
            return False
        scores = {"loss": self.state.last_loss}
        if self.validate is not None:
            self.network.eval()
            interrupt.at_once = True  # measuring changes nothing that is saved
            with torch.inference_mode(), self.compute.autocast():
                measured = self.validate()
            interrupt.at_once = False
            self.network.train()
            self._log(log, **measured)
            scores |= measured
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        console.note(self.tool, f"epoch {ended}/{self.plan.epochs}: {shown}")
        self.state.validated = ended
        return True

    def _log(self, log: MetricsLog, **measured: float) -> None:
        epoch = self.state.step * self.step_size / self.samples.epoch
        log.write(step=self.state.step, epoch=epoch, **measured)
        self.state.log_position = log.position

    def _optimizer(self) -> torch.optim.SGD:
        groups = self.network.parameter_groups()
        times = {"backbone": 1.0, "new": self.plan.new_lr}
        return torch.optim.SGD(
            [{"params": groups[name], "times": times[name]} for name in times],
            lr=self.plan.lr,
            momentum=self.plan.momentum,
            weight_decay=self.plan.weight_decay,
        )

    def _wrapped(self) -> nn.Module:
        if self.group.world == 1:
            return self.network
        return nn.parallel.DistributedDataParallel(self.network)

    def _name_unreadable(self, loaded: list[Sample]) -> None:
        """Name each record that cannot be read, once; it has no weight in the loss."""
        for sample in loaded:
            name = sample.record["id"]
            if sample.error and name not in self.state.unreadable:
                console.warn(self.tool, f"{name}: {sample.error}")
                self.state.unreadable.append(name)
                if self.strict:
                    raise WsssError("stopped at the first record that cannot be read (--strict)")

    def _tell_remark(self, loaded: list[Sample]) -> None:
        """Say what was done to the first sample's files that has a remark; others are alike."""
        if not self.remarked and (found := next((s for s in loaded if s.remark), None)):
            self.remarked = True
            console.note(self.tool, f"{found.record['id']}: {found.remark}; said only once")

    def _diverged(self, lr: float) -> str:
        text = (
            f"the loss is no longer finite at step {self.state.step} of {self.steps} "
            f"(learning rate {lr:.2g}): try a smaller --lr or --precision fp32"
        )
        kept = f"; the state before is kept in {self.state_path}"
        return text + (kept if self.state_path.exists() else "")

    # ---- what lies on the disk ----

    def _finished(self) -> bool:
        """Whether this very run has written its checkpoint."""
        if not self.out.exists() or self.state_path.exists():
            return False
        then = files.load_checkpoint(self.out).config.get("training", {})
        resume.check_same(then, self.run_identity, str(self.out))
        return True

    def _load(self) -> dict[str, Any] | None:
        return resume.load(self.state_path, self.run_identity)

    def _restore(self, saved: dict[str, Any] | None) -> None:
        if saved is None:
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.state = _State(**saved["progress"])
        console.note(self.tool, f"resumed at step {self.state.step} of {self.steps}")

    def _save_state(self) -> None:
        if self.group.main:
            resume.save(
                self.state_path,
                self.run_identity,
                {
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "progress": asdict(self.state),
                },
            )

    def _leave(self, interrupt: Interrupt) -> None:
        """Save the state and end as the signal asks."""
        self._save_state()
        if self.group.main:
            console.warn(
                self.tool,
                f"interrupted at step {self.state.step} of {self.steps}; "
                "the same command with --resume goes on from there",
            )
        interrupt.leave()

    def _finish(self) -> None:
        """Write the plot and the checkpoint, then drop the state: the run has ended."""
        plot_metrics(self.log_path, self.out.with_name(self.out.stem + ".png"))
        config = {**self.checkpoint["config"], "training": self.run_identity}
        files.save_checkpoint(
            self.out, **{**self.checkpoint, "config": config}, state_dict=self.network.state_dict()
        )
        self.state_path.unlink(missing_ok=True)
