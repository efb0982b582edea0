"""The surroundings of the training loop, the same for every trainer.

A session joins the processes of torchrun, reads and checks all records before any work, and runs
the loop. A trainer stops at bad records, where a streaming tool leaves them out: so it collects all
problems first and has no use for the failures of the stage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wsss_cli import console, files, inputs, memory, records
from wsss_cli.classes import IGNORE
from wsss_cli.datasets import strong
from wsss_cli.datasets.augment import Jitter
from wsss_cli.datasets.samples import ChooseView, Sample, Samples
from wsss_cli.errors import WsssError, describe
from wsss_cli.models.base import Backbone, Network
from wsss_cli.models.device import Compute, choose
from wsss_cli.models.networks import build_network, colours_to_state
from wsss_cli.models.weights import load_new_layers, load_pretrained
from wsss_cli.records import Record
from wsss_cli.training import outputs, resume
from wsss_cli.training.distributed import Group, group, local_rank
from wsss_cli.training.events import check_installed, prepare
from wsss_cli.training.loop import Loss, Plan, Trainer, Validate
from wsss_cli.unique import Ids

_SHOWN = 20  # problems reported one by one; the rest is only counted


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that all trainers share; see `commands/_training.py`."""

    out: str
    epochs: int | None
    steps: int | None
    batch_size: int
    crop: int
    jitter: bool
    lr: float
    new_lr: float
    bias_lr: float
    momentum: float
    weight_decay: float
    decay_biases: bool
    clip: float
    warmup: int
    freeze_bn: bool | None
    val: str | None
    resume: bool
    replace: bool
    save_every: int
    strict: bool
    image_key: str
    seed: int
    workers: int
    device: str
    precision: str
    bn_affine: bool = False
    freeze_until: str | None = None
    tensorboard: str | None = None


@dataclass(frozen=True)
class Session:
    """A trainer's surroundings.

    Attributes:
        tool: name of the command, for messages.
        options: the options that all trainers share.
        group: the processes that train together.
        compute: device and precision of this process.
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
        """All records, checked before hours of work begin.

        The ``mask`` of a record marked ``"strong": false`` is left out.

        Args:
            sources: files of records; none means stdin.
            either: keys of files beside the image, of which each record must have one; the first
                that it has is the one used.
            check: raises WsssError if a record cannot be used for another reason.

        Raises:
            WsssError: there are none, or some cannot be used; these are listed on stderr first.
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
        ids = Ids()
        for read in records.read(sources, problems.append):
            record = strong.to_learn_from(read) if learn else read
            try:
                keys = [self.options.image_key]
                if either:
                    keys.append(records.first_key(record, either) or either[0])
                if learn and "mask" in either:
                    strong.check_strength(read, keys[-1])
                for path in records.paths(record, keys):
                    os.stat(path)
                check(record)
                if ids.taken(record["id"], read):
                    raise WsssError("an earlier, different record has this id; give each its own")
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

    def unmeasured(self) -> Callable[[Sequence[Sample]], None]:
        """Names each sample of ``--val`` that cannot be read, once; scores leave it out."""
        told: set[str] = set()

        def tell(loaded: Sequence[Sample]) -> None:
            for sample in loaded:
                name = sample.record["id"]
                if sample.error and name not in told:
                    told.add(name)
                    console.warn(self.tool, f"--val: {name}: {sample.error}; not measured")

        return tell

    def samples(
        self,
        given: Sequence[Record],
        backbone: Backbone,
        *,
        view: ChooseView,
        classes: Sequence[str] | None = None,
        label_map_keys: Sequence[str] = (),
        highest_label: int = IGNORE,
        grey_key: str | None = None,
        soft_classes: Sequence[str] | None = None,
        augmented: bool = False,
        groups: Sequence[Sequence[int]] | None = None,
        weights: Sequence[float] | None = None,
    ) -> Samples:
        """Samples of records, padded with the mean colour of the backbone.

        The image key and the random seed are those of the options, and so is whether the colours
        of ``augmented`` samples, those to train on, change at random. The other arguments are those
        of :class:`wsss_cli.datasets.samples.Samples`.
        """
        return Samples(
            given,
            view=view,
            image_key=self.options.image_key,
            classes=classes,
            label_map_keys=label_map_keys,
            highest_label=highest_label,
            grey_key=grey_key,
            soft_classes=soft_classes,
            jitter=Jitter() if augmented and self.options.jitter else None,
            fill=[round(255 * value) for value in backbone.mean],
            groups=groups,
            weights=weights,
            seed=self.options.seed,
        )

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
        settings: Mapping[str, Any],
        weights: str | None = None,
        validate: Validate | None = None,
        advice: Sequence[str] = (),
        ema: float | None = None,
    ) -> None:
        """Train a network and write its checkpoint; exit with code 1 if records could not be read.

        Args:
            kind: kind of the checkpoint.
            network: the network.
            classes: class names of the checkpoint.
            config: the config that the network is rebuilt from.
            samples: the training samples.
            keys: record keys that training uses beside the image.
            loss: the loss of a batch.
            settings: everything else that changes the result, for the checkpoint and --resume.
            weights: the option ``--weights``; None if the backbone comes from a checkpoint. Unless
                ``--freeze-bn`` decides, batch normalisation is frozen but for ``none``.
            validate: measures the network.
            advice: what the user should know of the records, told before training.
            ema: decay of the average of the weights that is saved; None saves the last.
        """
        options = self.options
        out = Path(options.out)
        own_weights = weights not in (None, "imagenet", "none")
        keep = [str(weights)] if own_weights else []
        self.group.on_main(lambda: outputs.check_free(out, kind, keep=keep))
        events = None
        if tensorboard := options.tensorboard:
            events = self.group.on_main(lambda: prepare(tensorboard, out))
        run = self.group.on_main(
            lambda: resume.identity(
                samples.records,
                [options.image_key, *keys],
                threads=max(options.workers, 1),
                backbone=network.backbone.name,
                **config,
                **settings,
                weights=weights,
                **({"weights_digest": inputs.digest(str(weights))} if own_weights else {}),
                classes=list(classes),
                crop=options.crop,
                **({} if options.jitter else {"jitter": False}),
                precision=self.compute.precision,
            )
        )
        if options.freeze_until and weights == "none":
            advice = [
                *advice,
                f"--freeze-until {options.freeze_until} keeps random weights; take it away, or "
                "give --weights imagenet",
            ]
        plan = {key: value for key, value in asdict(options).items() if key in _PLAN}
        if options.freeze_bn is None:
            plan["freeze_bn"] = weights != "none"
        # None where runs of earlier versions have no such key.
        plan["bn_affine"] = options.bn_affine or None
        plan["bias_lr"] = options.bias_lr if options.bias_lr != 1 else None
        plan["ema"] = ema
        plan["decay_biases"] = None if options.decay_biases else False
        self.group.on_main(lambda: files.remove_leftovers(out.parent, self.tool))
        trainer = Trainer(
            self.tool,
            network=network,
            samples=samples,
            loss=loss,
            plan=Plan(**plan),
            compute=self.compute,
            group=self.group,
            out=out,
            checkpoint={
                "kind": kind,
                "backbone": network.backbone.name,
                "classes": classes,
                "config": config,
            },
            run=run,
            workers=options.workers,
            validate=validate,
            advice=advice,
            save_every=options.save_every,
            strict=options.strict,
            events=events,
        )
        unreadable = trainer.run(resume=options.resume, replace=options.replace)
        if unreadable:
            console.warn(self.tool, f"left out {_count(unreadable)} that cannot be read")
            console.tell_whole()
            sys.exit(1)


def _count(records: Sequence[str]) -> str:
    return f"{len(records)} record" + ("s" if len(records) != 1 else "")


_PLAN = set(Plan.__dataclass_fields__)


@contextmanager
def session(tool: str, **options: Any) -> Iterator[Session]:
    """Join the processes that torchrun started, if any, and choose the device.

    Args:
        tool: name of the command.
        options: the fields of :class:`Options`.

    Raises:
        ConfigurationError: there is no such device, or it lacks the precision.
    """
    given = Options(**options)
    if given.tensorboard is not None:
        check_installed()
    torch.manual_seed(given.seed)  # for the random weights of new layers
    compute = choose(given.device, given.precision, local_rank=local_rank())
    if compute.device.type == "cpu":
        memory.keep_freed()
    with group(compute.device.type) as joined:
        console.detail(tool, f"computing on {compute.device} in {compute.precision}")
        yield Session(tool, given, joined, compute)


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

    Weights from a checkpoint of the same kind and classes fill its other layers too.

    Args:
        kind: kind of the checkpoint that it will become.
        backbone: name of the backbone.
        classes: class names, without background.
        weights: imagenet, none or a file.
        output_stride: of the backbone, or None for its own.
        config: other settings that this kind of network is built from.

    Raises:
        ConfigurationError: no such backbone, stride or weights.
    """
    chosen = {"output_stride": output_stride, **config}
    network: Network = build_network(kind, backbone, classes, chosen)
    load_pretrained(network.backbone, weights)
    if weights not in ("imagenet", "none"):
        load_new_layers(network, weights, kind=kind, classes=classes)
    stride = network.backbone.strides[-1]
    return network, {**chosen, "output_stride": stride, **colours_to_state(network.backbone)}
