"""What every trainer does around the loop: join its processes, read and check, plot, report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsss_cli import console, records
from wsss_cli.datasets import strong
from wsss_cli.datasets.samples import ChooseView, Samples
from wsss_cli.errors import WsssError, describe
from wsss_cli.models.backbones import Backbone
from wsss_cli.models.base import Network
from wsss_cli.models.device import Compute, choose
from wsss_cli.models.networks import build_network
from wsss_cli.models.weights import load_new_layers, load_pretrained
from wsss_cli.records import Record
from wsss_cli.training import resume
from wsss_cli.training.distributed import Group, group, local_rank
from wsss_cli.training.loop import Loss, Plan, Trainer, Validate

_SHOWN = 20  # problems named one by one before the rest is only counted


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the options shared by all trainers say; see `commands/_training.py`."""

    out: str
    epochs: int
    batch_size: int
    crop: int
    lr: float
    new_lr: float
    weight_decay: float
    warmup: int
    freeze_bn: bool | None
    val: str | None
    resume: bool
    save_every: int
    strict: bool
    image_key: str
    seed: int
    workers: int
    device: str
    precision: str


@dataclass(frozen=True)
class Session:
    """A trainer's surroundings.

    Attributes:
        tool: name of the command, for messages.
        options: what it was told.
        group: the processes that train together.
        compute: device and precision of this one.
    """

    tool: str
    options: Options
    group: Group
    compute: Compute

    def read(
        self,
        sources: Sequence[str],
        *,
        either: Sequence[str] = (),
        check: Callable[[Record], object] = lambda record: None,
    ) -> list[Record]:
        """All records, each found good before hours of work begin.

        A ``mask`` of a record marked ``"strong": false`` is not among what comes back.

        Args:
            sources: files of records; none means stdin.
            either: keys of files beside the image, of which each record must have one; the first
                that it has is the one used.
            check: raises WsssError if a record cannot be used for another reason.

        Raises:
            WsssError: there are none, or some are no good; each is named on stderr before.
        """
        return self.group.on_main(lambda: self._read(sources, either, check, learn=True))

    def read_held_out(
        self, *, either: Sequence[str] = (), check: Callable[[Record], object] = lambda record: None
    ) -> list[Record]:
        """The records of ``--val``, read like the others; none without the option."""
        val = self.options.val
        if not val:
            return []
        return self.group.on_main(lambda: self._read([val], either, check, learn=False))

    def _read(
        self,
        sources: Sequence[str],
        either: Sequence[str],
        check: Callable[[Record], object],
        *,
        learn: bool,
    ) -> list[Record]:
        problems: list[str] = []
        good: list[Record] = []
        for read in records.read(sources, problems.append):
            record = strong.to_learn_from(read) if learn else read
            try:
                keys = [self.options.image_key]
                if either:
                    keys.append(next((key for key in either if record.get(key)), either[0]))
                if learn and "mask" in either:
                    strong.check_strength(read, keys[-1])
                records.need(record, keys)
                for key in keys:
                    os.stat(record[key])
                check(record)
                good.append(record)
            except (WsssError, OSError) as error:
                problems.append(f"{record['id']}: {describe(error)}")
        for problem in problems[:_SHOWN]:
            console.warn(self.tool, problem)
        if problems:
            rest = len(problems) - _SHOWN
            shown = f" ({rest} of them not shown)" if rest > 0 else ""
            raise WsssError(f"{_count(problems)} cannot be used{shown}; nothing was trained")
        if not good:
            raise WsssError("no records to train on: the stream is empty")
        return good

    def samples(
        self, given: Sequence[Record], backbone: Backbone, *, view: ChooseView, **settings: Any
    ) -> Samples:
        """Samples of records as the options say, padded with the mean colour of the backbone."""
        fill = [round(255 * value) for value in backbone.mean]
        key, seed = self.options.image_key, self.options.seed
        return Samples(given, view=view, image_key=key, fill=fill, seed=seed, **settings)

    def train(
        self,
        *,
        kind: str,
        network: Network,
        classes: Sequence[str],
        config: dict[str, Any],
        samples: Samples,
        keys: Sequence[str],
        loss: Loss,
        validate: Validate | None = None,
        **settings: Any,
    ) -> None:
        """Run the loop as the options say and end with exit code 1 on lost records.

        Args:
            kind: kind of the checkpoint.
            network: what is trained.
            classes: class names of the checkpoint.
            config: what the network is rebuilt from.
            samples: what it is trained on.
            keys: record keys that training uses beside the image.
            loss: the loss of a batch.
            validate: measures the network.
            settings: whatever else changes the result.
        """
        options = self.options
        run = resume.identity(
            samples.records,
            [options.image_key, *keys],
            backbone=network.backbone.name,
            **config,
            **settings,
            classes=list(classes),
            crop=options.crop,
            precision=self.compute.precision,
        )
        shared = {key: value for key, value in asdict(options).items() if key in _PLAN}
        if options.freeze_bn is None:
            shared["freeze_bn"] = settings.get("weights") != "none"
        trainer = Trainer(
            self.tool,
            network=network,
            samples=samples,
            loss=loss,
            plan=Plan(**shared),
            compute=self.compute,
            group=self.group,
            out=Path(options.out),
            checkpoint={
                "kind": kind,
                "backbone": network.backbone.name,
                "classes": classes,
                "config": config,
            },
            run=run,
            workers=options.workers,
            validate=validate,
            save_every=options.save_every,
            strict=options.strict,
        )
        unreadable = trainer.run(resume=options.resume)
        if unreadable:
            console.warn(self.tool, f"left out {_count(unreadable)} that cannot be read")
            sys.exit(1)


def _count(things: Sequence[str]) -> str:
    return f"{len(things)} record" + ("s" if len(things) != 1 else "")


_PLAN = set(Plan.__dataclass_fields__)


@contextmanager
def session(tool: str, **options: Any) -> Iterator[Session]:
    """Join the processes that torchrun started, if it did, and choose the device.

    Args:
        tool: name of the command.
        options: the fields of :class:`Options`.

    Raises:
        ConfigurationError: there is no such device, or it lacks the precision.
    """
    said = Options(**options)
    torch.manual_seed(said.seed)  # the new layers' first weights
    compute = choose(said.device, said.precision, local_rank=local_rank())
    with group(compute.device.type) as joined:
        console.detail(tool, f"computing on {compute.device} in {compute.precision}")
        yield Session(tool, said, joined, compute)


def pretrained(
    kind: str,
    backbone: str,
    classes: Sequence[str],
    *,
    weights: str,
    output_stride: int | None,
    **config: Any,
) -> tuple[Any, dict[str, Any]]:
    """A network to train, with weights in its backbone, and the config that rebuilds it.

    Weights of the same kind of network, for the same classes, go into its other layers too.

    Args:
        kind: kind of the checkpoint that it will become.
        backbone: name of the backbone.
        classes: class names, without background.
        weights: imagenet, none or a file.
        output_stride: of the backbone, or None for its own.
        config: what else the kind needs to be told.

    Raises:
        ConfigurationError: no such backbone, stride or weights.
    """
    chosen = {"output_stride": output_stride, **config}
    network: Network = build_network(kind, backbone, classes, chosen)
    load_pretrained(network.backbone, weights)
    if weights not in ("imagenet", "none"):
        load_new_layers(network, weights, kind=kind, classes=classes)
    return network, {**chosen, "output_stride": network.backbone.strides[-1]}


def part(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of the module ``name`` within a network's, by their names within the module."""
    prefix = name + "."
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
