"""The training loop that all trainers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsss_cli import console, files
from wsss_cli.datasets.samples import Sample, Samples, batches, shuffled
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.interrupt import Interrupt, postponed
from wsss_cli.models.base import Network
from wsss_cli.models.batchnorm import freeze_batchnorm
from wsss_cli.models.device import Compute
from wsss_cli.models.freezing import freeze_until
from wsss_cli.models.weights import fill
from wsss_cli.training import outputs, resume
from wsss_cli.training.average import WeightAverage
from wsss_cli.training.batch import Batch, collate
from wsss_cli.training.distributed import Group
from wsss_cli.training.events import Events
from wsss_cli.training.log import Losses, MetricsLog, Speed
from wsss_cli.training.optimizer import descent
from wsss_cli.training.plot import plot_metrics
from wsss_cli.training.schedule import poly

# The loss of a batch, given the network's forward pass. A dict holds its parts by name: the loss is
# their sum, and each is logged as loss_NAME.
Loss = Callable[[Callable[[Tensor], Any], Batch], Tensor | dict[str, Tensor]]
Validate = Callable[[], dict[str, float]]

_SHORT = 60  # steps, below which even a pretrained network has learnt little
_FEW = 32  # samples that may by chance have nothing to learn from


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of the loop. Each of them changes the result.

    Those that were added later are None where they change nothing: an earlier run, which does not
    name them, is then still the same run.

    Attributes:
        epochs: passes over the records; None where the number of steps is given.
        steps: steps of gradient descent; None where the number of epochs is given.
        batch_size: samples a step, on each process.
        lr: learning rate of the backbone at the start.
        new_lr: how many times as large that of new layers is.
        bias_lr: how many times as large that of biases is, in either; None is 1.
        momentum: momentum of stochastic gradient descent.
        weight_decay: weight decay, of all weights.
        decay_biases: False leaves biases out of it; None is True.
        power: exponent of the poly schedule.
        warmup: steps over which the learning rate grows at the start.
        clip: gradients with a larger 2-norm (over all weights) are scaled down to it; 0 leaves
            them.
        freeze_bn: freeze the batch normalisation of the backbone.
        bn_affine: with it, freeze the statistics only: scale and shift are learned.
        freeze_until: last stage of the backbone that is frozen (:func:`freeze_until`), if any.
        seed: random seed.
        ema: decay of the moving average of the weights that is measured and saved in place of the
            last weights (:class:`wsss_cli.training.average.WeightAverage`); None saves the last.
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int
    lr: float
    new_lr: float = 10.0
    bias_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_biases: bool | None = None
    power: float = 0.9
    warmup: int = 0
    clip: float = 10.0
    freeze_bn: bool = True
    bn_affine: bool | None = None
    freeze_until: str | None = None
    seed: int = 0
    ema: float | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("either epochs or steps are needed")


@dataclass
class _State(Losses):
    """The progress of a run, apart from its weights.

    Attributes:
        step: steps done.
        validated: epochs that have ended and been measured; the last may be a part of one.
        log_position: size of the log in bytes.
        unreadable: ids of the records that could not be read.
        taught: samples that there was something to learn from.
    """

    step: int = 0
    validated: int = 0
    log_position: int = 0
    unreadable: list[str] = field(default_factory=list)
    taught: int = 0


def _is_progress(state: _State) -> bool:
    """Whether all values have the types of those that a run begins with."""
    given, usual = vars(state), vars(_State())
    return all(
        type(value) is type(usual[key]) or (isinstance(usual[key], float) and type(value) is int)
        for key, value in given.items()
    ) and all(isinstance(name, str) for name in state.unreadable)


class Trainer:
    """One training run, from the first step or from where it was interrupted to the checkpoint.

    Args:
        tool: name of the command, for messages.
        network: the network.
        samples: the training samples.
        loss: the loss of a batch, given the network (wrapped for several processes) and the batch.
        plan: settings of the loop.
        compute: device and precision.
        group: the processes that train together.
        out: the checkpoint to write.
        checkpoint: the contents of the checkpoint beside the weights: kind, backbone, classes,
            config.
        run: the identity of this run (:func:`resume.identity`).
        workers: threads that load samples.
        validate: measures the network at the end of each epoch and of the run, or None.
        advice: lines about the records, told before the first step.
        save_every: steps between states saved within an epoch; 0 saves at its end only.
        strict: stop at the first sample that cannot be read.
        events: folder that the metrics are also written to for TensorBoard, or None.
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
        advice: Sequence[str] = (),
        save_every: int = 0,
        strict: bool = False,
        events: Path | None = None,
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
        self.resumes = False
        self.run_identity = {**run, **asdict(plan), "processes": group.world}
        self.workers = max(1, workers)
        self.validate = validate
        self.advice = advice
        self.save_every = save_every
        self.strict = strict
        self.events_path = events

        if plan.freeze_bn:
            freeze_batchnorm(self.network.backbone, affine=not plan.bn_affine)
        if plan.freeze_until is not None:
            freeze_until(self.network.backbone, plan.freeze_until)
        self.state_path, self.log_path = outputs.state_path(out), outputs.log_path(out)
        self.step_size = plan.batch_size * group.world
        if plan.epochs is not None:
            self.epochs = plan.epochs
            self.steps = math.ceil(plan.epochs * samples.epoch / self.step_size)
        else:
            assert plan.steps is not None
            self.epochs = math.ceil(plan.steps * self.step_size / samples.epoch)
            self.steps = plan.steps
        # At least one line per epoch, and no more than a plot can show.
        self.log_every = max(1, min(50, self.steps // 100, samples.epoch // self.step_size))
        self.state = _State()
        self.remark_shown = False
        self.optimizer = descent(
            network,
            lr=plan.lr,
            new_lr=plan.new_lr,
            bias_lr=1.0 if plan.bias_lr is None else plan.bias_lr,
            momentum=plan.momentum,
            weight_decay=plan.weight_decay,
            decay_biases=plan.decay_biases is not False,
        )
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.needs_scaler)
        self.average = None if plan.ema is None else WeightAverage(network, plan.ema)

    def run(self, *, resume: bool = False, replace: bool = False) -> list[str]:
        """Train and write the checkpoint.

        Args:
            resume: continue an interrupted run of the same settings and records, if there is one.
            replace: train anew where there is something to resume, but of another run.

        Returns:
            The ids of records that could not be read and were left out.

        Raises:
            OtherRun: there is something to resume, but of another run.
            ConfigurationError: it is damaged.
            WsssError: the loss is not finite, there was nothing to learn from, or nothing can be
                written.
        """
        self.resumes = resume
        if resume and replace and self.group.on_main(self._outdated):
            resume = False
        if resume and (finished := self.group.on_main(self._finished)) is not None:
            console.note(self.tool, f"{self.out}: finished already")
            return finished
        if resume:
            self._restore(self.group.on_main(self._load))
        elif self.group.main and self.state_path.exists():
            console.note(
                self.tool, f"{self.state_path}: not resumed without --resume; starting anew"
            )
        if self.group.main:
            self._advise()
        with postponed() as interrupt:
            try:
                self._train(interrupt)
            except (KeyboardInterrupt, RuntimeError):
                # A process that was stopped before this one breaks its step (RuntimeError).
                if interrupt.asked is None or interrupt.insisted:
                    raise
                self._leave(interrupt)
        names = [name for names in self.group.gather(self.state.unreadable) for name in names]
        self.group.on_main(lambda: self._finish(names))
        return names

    def _advise(self) -> None:
        """Say what the result will suffer from."""
        for line in self.advice:
            console.warn(self.tool, line)
        if self.steps < _SHORT:
            console.warn(
                self.tool,
                f"only {self.steps} steps from {len(self.samples)} photographs: too few to learn "
                "much; --steps 200 trains for longer",
            )

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
        path, events_path = (self.log_path, self.events_path) if self.group.main else (None, None)
        with (
            MetricsLog(
                path, state.log_position, Events(events_path, state.step, tool=self.tool)
            ) as log,
            console.progress(
                self.tool, total=self.steps * self.step_size, initial=state.step * self.step_size
            ) as bar,
            closing(batches(self.samples, draws, workers=self.workers)) as loading,
        ):
            self.network.train()
            self._end_epochs(log, interrupt)
            speed = Speed(state.step)
            for loaded in loading:
                self._report_unreadable(loaded)
                self._report_remark(loaded)
                state.taught += sum(sample.teaches for sample in loaded)
                lr = plan.lr * poly(state.step, self.steps, power=plan.power, warmup=plan.warmup)
                state.add(*self.step(network, loaded, lr))
                state.step += 1
                if self.average is not None:
                    self.average.update(state.step)
                if not math.isfinite(state.loss_sum):
                    raise WsssError(self._diverged(lr))
                bar.update(self.step_size, loss=f"{state.mean:.4f}", lr=f"{lr:.2g}")
                if state.step % self.log_every == 0 or state.step == self.steps:
                    rate = self.step_size * speed.at(state.step)
                    self._log(log, **state.take(), lr=lr, images_per_second=rate)
                    speed.restart(state.step)
                ended = self._end_epochs(log, interrupt)
                if interrupt.asked is not None:
                    self._leave(interrupt)
                if ended or (self.save_every and state.step % self.save_every == 0):
                    self._save_state()
                    speed.restart(state.step)

    def step(
        self, network: nn.Module, loaded: list[Sample], lr: float
    ) -> tuple[float, dict[str, float]]:
        """One step of gradient descent.

        Returns:
            The loss, or NaN if its gradient is not finite; and its parts by name.
        """
        # Dropout depends on the number of the step alone, so no random state needs to be saved.
        seed = np.random.SeedSequence([self.plan.seed, self.state.step, self.group.rank])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr * settings["times"]
        batch = collate(loaded, backbone=self.network.backbone, device=self.compute.device)
        batch = replace(batch, progress=self.state.step / self.steps)
        with self.compute.autocast():
            result = self.loss(network, batch)
            parts = result if isinstance(result, dict) else {}
            loss = torch.stack([*parts.values()]).sum() if isinstance(result, dict) else result
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        longest = self.plan.clip or math.inf
        length = nn.utils.clip_grad_norm_(self.network.parameters(), longest)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # The scaler itself leaves out steps whose gradient overflows.
        finite = self.scaler.is_enabled() or length.isfinite()
        values = {name: part.item() for name, part in parts.items()}
        return loss.item() if finite else math.nan, values

    def _end_epochs(self, log: MetricsLog, interrupt: Interrupt) -> bool:
        """Measure the network if an epoch or the run has ended, and return whether one has."""
        done = self.state.step == self.steps
        whole = self.state.step * self.step_size // self.samples.epoch
        ended = self.epochs if done else min(whole, self.epochs)
        if ended <= self.state.validated:
            return False
        self._check_taught()
        scores = {"loss": self.state.last_loss}
        if self.validate is not None:
            self.network.eval()
            with nullcontext() if self.average is None else self.average.in_force():
                interrupt.at_once = True  # measuring changes no saved state
                with torch.inference_mode(), self.compute.autocast():
                    measured = self.validate()
                interrupt.at_once = False
            self.network.train()
            self._log(log, **measured)
            scores |= measured
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        place = (
            f"step {self.state.step}/{self.steps}"
            if self.plan.epochs is None
            else f"epoch {ended}/{self.epochs}"
        )
        console.note(self.tool, f"{place}: {shown}")
        self.state.validated = ended
        return True

    def _check_taught(self) -> None:
        """Raise WsssError if there was nothing to learn from so far."""
        seen = self.state.step * self.step_size
        if any(self.group.gather(self.state.taught)) or (
            seen < _FEW and self.state.step < self.steps  # a few random crops may all be empty
        ):
            return
        reason = (
            "no record could be read"
            if len(self.state.unreadable) >= len(self.samples)
            else "no sample has a known label or a pixel that is not 255"
        )
        self.group.on_main(lambda: self.state_path.unlink(missing_ok=True))
        raise WsssError(f"there is nothing to learn from: {reason}; no checkpoint was written")

    def _log(self, log: MetricsLog, **measured: float) -> None:
        epoch = self.state.step * self.step_size / self.samples.epoch
        log.write(step=self.state.step, epoch=epoch, **measured)
        self.state.log_position = log.position

    def _wrapped(self) -> nn.Module:
        if self.group.world == 1:
            return self.network
        return nn.parallel.DistributedDataParallel(self.network)

    def _report_unreadable(self, loaded: list[Sample]) -> None:
        """Report each record that cannot be read once; it has no weight in the loss."""
        for sample in loaded:
            name = sample.record["id"]
            if sample.error and name not in self.state.unreadable:
                console.warn(self.tool, f"{name}: {sample.error}")
                self.state.unreadable.append(name)
                if self.strict:
                    raise WsssError("stopped at the first record that cannot be read (--strict)")

    def _report_remark(self, loaded: list[Sample]) -> None:
        """Report the first remark on a sample's files; those on others are alike."""
        if not self.remark_shown and (sample := next((s for s in loaded if s.remark), None)):
            self.remark_shown = True
            console.note(
                self.tool, f"{sample.record['id']}: {sample.remark}; further ones are not reported"
            )

    def _diverged(self, lr: float) -> str:
        text = (
            f"the loss is no longer finite at step {self.state.step} of {self.steps} "
            f"(learning rate {lr:.2g}): try a smaller --lr or --precision fp32"
        )
        kept = f"; the state before is kept in {self.state_path}"
        return text + (kept if self.state_path.exists() else "")

    # ---- files ----

    def _finished(self) -> list[str] | None:
        """If this run has written its checkpoint already, the records that it left out."""
        if not self.out.exists() or self.state_path.exists():
            return None
        checkpoint = files.load_checkpoint(self.out)
        config = checkpoint.config
        resume.check_same(config.get("training", {}), self.run_identity, str(self.out))
        try:
            self._fill(checkpoint.state_dict)
        except (KeyError, RuntimeError, WsssError) as error:
            raise ConfigurationError(
                f"{self.out}: damaged: its weights do not fit its network, or are not finite; "
                "remove it, and train anew"
            ) from error
        return list(config.get("left_out", []))

    def _outdated(self) -> bool:
        """Whether there is something to resume, but of another run; a state is then removed."""
        try:
            if self._load() is None:
                self._finished()
        except resume.OtherRun as error:
            console.note(self.tool, f"{error.reason}; training anew")
            self.state_path.unlink(missing_ok=True)
            return True
        return False

    def _load(self) -> dict[str, Any] | None:
        return resume.load(self.state_path, self.run_identity)

    def _restore(self, saved: dict[str, Any] | None) -> None:
        if saved is None:
            return
        try:
            self._fill(saved["network"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
            settings = self._settings()
            self.optimizer.load_state_dict(saved["optimizer"])
            if self._settings() != settings:
                raise ValueError("other settings of the optimizer")
            self.scaler.load_state_dict(saved["scaler"])
            self.state = _State(**saved["progress"])
            if not _is_progress(self.state) or not 0 <= self.state.step <= self.steps:
                raise ValueError("no progress of this run")
            for weight, kept in self.optimizer.state.items():  # torch does not ask
                if kept["momentum_buffer"].shape != weight.shape:
                    raise ValueError("momentum of another shape")
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, WsssError) as error:
            raise resume.damaged(self.state_path) from error
        if not self.group.main:  # each process tells of its own records
            self.state.unreadable = []
        console.note(self.tool, f"resumed at step {self.state.step} of {self.steps}")

    def _fill(self, state: Mapping[str, Tensor]) -> None:
        """Fill the network; raise KeyError, RuntimeError or WsssError if they do not fit."""
        if state.keys() != self.network.state_dict().keys():
            raise KeyError("network")
        fill(self.network, state)

    def _settings(self) -> list[dict[str, Any]]:
        """What the command says of the optimizer; the learning rate follows from the step."""
        return [
            {key: value for key, value in each.items() if key not in ("params", "lr")}
            for each in self.optimizer.param_groups
        ]

    def _save_state(self) -> None:
        if self.group.main:
            resume.save(
                self.state_path,
                self.run_identity,
                {
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    **({} if self.average is None else {"average": self.average.state_dict()}),
                    "progress": asdict(self.state),
                },
            )

    def _leave(self, interrupt: Interrupt) -> None:
        """Save the state and exit with the code of the signal."""
        self._save_state()
        if self.group.main:
            again = "" if self.resumes else " with --resume"
            console.warn(
                self.tool,
                f"interrupted at step {self.state.step} of {self.steps}; "
                f"the same command{again} goes on from there",
            )
        interrupt.leave()

    def _finish(self, left_out: list[str]) -> None:
        """Write the checkpoint, remove the state to resume from, then write the plot."""
        config = {**self.checkpoint["config"], "training": self.run_identity}
        if left_out:
            config["left_out"] = left_out
        weights = self.network if self.average is None else self.average
        files.save_checkpoint(
            self.out, **{**self.checkpoint, "config": config}, state_dict=weights.state_dict()
        )
        self.state_path.unlink(missing_ok=True)
        plot = outputs.plot_path(self.out)
        try:
            plot_metrics(self.log_path, plot)
        except (WsssError, OSError, ValueError) as error:
            console.warn(self.tool, f"no plot {plot}: {describe(error)}; {self.out} is complete")
