"""Methods: which modalities fill each step. A new method is one generator and its name here."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from raytrain.errors import UserError

Kind = Literal["melt", "salt", "pair"]


class Step(NamedTuple):
    """One optimisation step: the epoch it belongs to and the modalities of its batch."""

    epoch: int
    modalities: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """How several unpaired modalities share the steps (Hecht et al. 2026, arXiv 2606.20167).

    melt: every batch holds pairs of all modalities. An epoch is a pass over the longest.
    salt: one modality an epoch, in turn: `order`, or longest first. An epoch is a pass over it, or
    `epoch_places` of its places where a pass is longer (null: always a pass); the next turn goes on
    behind them. The paper's turns are short: 100,000 tiles are 49 steps of its batches.
    pair: the two-modality baseline, location and `modality` (the first of data.modalities if not
    given): with satellite tiles SatCLIP-like, with photos GeoCLIP-like.
    """

    kind: Kind = "melt"
    order: tuple[str, ...] = ()
    epoch_places: int | None = 50_000
    modality: str | None = None

    def __post_init__(self) -> None:
        if self.epoch_places is not None and self.epoch_places < 1:
            raise ValueError(f"method.epoch_places is {self.epoch_places}; give 1 or more, or null")

    def modalities(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the `available` modalities that this method trains on, in their order."""
        unknown = {*self.order, self.modality or available[0]} - {*available}
        if unknown:
            raise UserError(
                f"method: {', '.join(sorted(unknown))} is not among data.modalities "
                f"({', '.join(available)})"
            )
        if self.order and {*self.order} != {*available}:
            raise UserError(
                "method.order: name every one of data.modalities "
                f"({', '.join(available)}), or none for longest first"
            )
        return (self.modality or available[0],) if self.kind == "pair" else available

    def together(self, modalities: int) -> int:
        """How many of so many modalities are in a step."""
        return modalities if self.kind == "melt" else 1

    def schedule(self, samples: Mapping[str, int], batches: Mapping[str, int]) -> Iterator[Step]:
        """The endless sequence of steps, given the training places of each modality and how many
        of them a step takes. An epoch's last step may take the first places of the next."""
        longest_first = tuple(sorted(samples, key=lambda name: -samples[name]))
        if self.kind == "salt":
            most = self.epoch_places
            turns = {n: s if most is None else min(s, most) for n, s in samples.items()}
            steps = {n: math.ceil(places / batches[n]) for n, places in turns.items()}
            return salt(steps, self.order or longest_first)
        passes = [math.ceil(samples[name] / batches[name]) for name in samples]
        return together(tuple(samples), max(passes))


def together(modalities: tuple[str, ...], steps_per_epoch: int) -> Iterator[Step]:
    """MELT, and pair, which is MELT with one modality: all in every step."""
    for step in itertools.count():
        yield Step(step // steps_per_epoch, modalities)


def salt(steps_per_epoch: Mapping[str, int], order: tuple[str, ...]) -> Iterator[Step]:
    """SALT: one modality an epoch, in turn."""
    for epoch, name in enumerate(itertools.cycle(order)):
        yield from itertools.repeat(Step(epoch, (name,)), steps_per_epoch[name])
