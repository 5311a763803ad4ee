"""Methods: which modalities fill each step. A new method is one generator and its name here."""

import itertools
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
    salt: one modality an epoch, which is one pass over it, in turn: `order`, or longest first.
    pair: the two-modality baseline, location and `modality` (the first of data.modalities if not
    given): with satellite tiles SatCLIP-like, with photos GeoCLIP-like.
    """

    kind: Kind = "melt"
    order: tuple[str, ...] = ()
    modality: str | None = None

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

    def schedule(self, steps_per_pass: Mapping[str, int]) -> Iterator[Step]:
        """The endless sequence of steps, given how many steps one pass over a modality takes."""
        longest_first = sorted(steps_per_pass, key=lambda name: -steps_per_pass[name])
        if self.kind == "salt":
            return salt(steps_per_pass, self.order or tuple(longest_first))
        return together(tuple(steps_per_pass), steps_per_pass[longest_first[0]])


def together(modalities: tuple[str, ...], steps_per_epoch: int) -> Iterator[Step]:
    """MELT, and pair, which is MELT with one modality: all in every step."""
    for step in itertools.count():
        yield Step(step // steps_per_epoch, modalities)


def salt(steps_per_pass: Mapping[str, int], order: tuple[str, ...]) -> Iterator[Step]:
    """SALT: one modality an epoch, in turn."""
    for epoch, name in enumerate(itertools.cycle(order)):
        yield from itertools.repeat(Step(epoch, (name,)), steps_per_pass[name])
