"""Which rank reads what of a stream: its visits of shards, dealt to however many ranks there are.

Rank r of W makes the visits r, r + W, r + 2W, …, so that nothing is dropped where an epoch ends,
and a position is the rows that each rank has taken since the run began. Where the number of ranks
changes, the visits that are left, begun ones first, are dealt anew in the same way: no row is
lost, and none comes twice.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from raytrain.data.manifest import Shard

Position = tuple[tuple[int, int], ...]
"""How far a stream was taken: (ranks, rows that each of them took), from the first ranks on."""


@dataclass(frozen=True)
class Visit:
    """A shard to read in an epoch, from its row number `skip` in that epoch's order on."""

    shard: Shard
    epoch: int
    skip: int = 0

    @property
    def rows(self) -> int:
        return self.shard.samples - self.skip


def further(position: Position, ranks: int, rows: int) -> Position:
    """The position after `ranks` have taken `rows` more each."""
    if position and position[-1][0] == ranks:
        return (*position[:-1], (ranks, position[-1][1] + rows))
    return (*position, (ranks, rows))


def rows_taken(position: Position) -> int:
    """By all ranks together."""
    return sum(ranks * rows for ranks, rows in position)


def dealt(visits: Iterator[Visit], position: Position, rank: int, world: int) -> Iterator[Visit]:
    """Those of a stream's visits that are left at a position, and fall to one rank of `world`."""
    earlier, rows_done = position, 0
    if position and position[-1][0] == world:
        earlier, rows_done = position[:-1], position[-1][1]
    for ranks, rows in earlier:
        visits = _left(visits, ranks, rows)
    return _behind(itertools.islice(visits, rank, None, world), rows_done)


def _behind(visits: Iterable[Visit], rows: int) -> Iterator[Visit]:
    """The visits of one rank behind so many rows."""
    for visit in visits:
        if rows < visit.rows:
            yield replace(visit, skip=visit.skip + rows)
        rows = max(0, rows - visit.rows)


def _left(visits: Iterator[Visit], ranks: int, rows: int) -> Iterator[Visit]:
    """What is left of visits that were dealt to `ranks`, each of which took so many rows."""
    wanted = [rows] * ranks
    begun: list[Visit] = []
    for rank in itertools.cycle(range(ranks)):
        if not any(wanted):
            break
        visit = next(visits)
        taken = min(wanted[rank], visit.rows)
        wanted[rank] -= taken
        if taken < visit.rows:
            begun.append(replace(visit, skip=visit.skip + taken))
    return itertools.chain(begun, visits)
