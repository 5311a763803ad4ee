"""What became of raw rows: `report.json` beside a manifest."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain import geo, storage
from raytrain.data.rows import KEY, LAT, LON

REPORT = "report.json"
DEGREES, SHAPE = 1.0, (180, 360)  # cells of the histogram of places
EXAMPLES = 5


@dataclass
class LeftOut:
    """Rows that are in no shard, and the first of them: their keys and places."""

    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: "LeftOut") -> None:
        """Count the other's too, whose rows come behind."""
        self.rows += other.rows
        self.examples = [*self.examples, *other.examples][:EXAMPLES]

    @classmethod
    def of(cls, rows: pa.Table) -> "LeftOut":
        """All of some rows."""
        examples = rows.slice(0, EXAMPLES).select([KEY, LON, LAT]).to_pylist()
        return cls(len(rows), [{k: v if v == v else None for k, v in e.items()} for e in examples])


@dataclass
class Report:
    """`rows` that were read: kept, by split; duplicates of others; and left out, by reason.
    `at_sea` counts rows whose place is no land, whatever became of them; `cells` [64800] the kept
    ones in each cell of 1°, from the north-west, row by row."""

    rows: int = 0
    kept: dict[str, int] = field(default_factory=lambda: {"train": 0, "val": 0})
    duplicates: LeftOut = field(default_factory=LeftOut)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    at_sea: int = 0
    cells: NDArray[np.int64] = field(default_factory=lambda: np.zeros(np.prod(SHAPE), np.int64))

    def leave_out(self, reason: str, rows: LeftOut) -> None:
        """Count rows as left out."""
        self.left_out.setdefault(reason, LeftOut()).add(rows)

    def keep(self, split: str, lonlat_deg: geo.Array) -> None:
        """Count places [n, 2] as kept."""
        self.kept[split] += len(lonlat_deg)
        row, column = geo.raster_pixels(lonlat_deg, *SHAPE)
        self.cells += np.bincount(row * SHAPE[1] + column, minlength=len(self.cells))

    def add(self, other: "Report") -> None:
        """Count the other's rows too, which come behind."""
        self.rows += other.rows
        self.at_sea += other.at_sea
        self.cells += other.cells
        self.duplicates.add(other.duplicates)
        for split, rows in other.kept.items():
            self.kept[split] += rows
        for reason, left_out in other.left_out.items():
            self.leave_out(reason, left_out)

    @property
    def bad(self) -> dict[str, int]:
        """How many rows were left out, by reason."""
        return {reason: left_out.rows for reason, left_out in self.left_out.items()}

    def to_dict(self) -> dict[str, Any]:
        """What JSON holds; of the cells only those with places."""
        cells = np.flatnonzero(self.cells)
        sparse = {
            "degrees": DEGREES, "cell": cells.tolist(), "rows": self.cells[cells].tolist()
        }  # fmt: skip
        return {**asdict(self), "cells": sparse}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Report":
        """A report out of JSON."""
        cells = np.zeros(np.prod(SHAPE), np.int64)
        cells[values["cells"]["cell"]] = values["cells"]["rows"]
        left_out = {reason: LeftOut(**rows) for reason, rows in values["left_out"].items()}
        duplicates = LeftOut(**values["duplicates"])
        return cls(**{**values, "cells": cells, "left_out": left_out, "duplicates": duplicates})

    def save(self, url: str) -> None:
        """Write it into the folder of the shards."""
        content = json.dumps(self.to_dict(), ensure_ascii=False) + "\n"
        storage.write(storage.join(url, REPORT), content.encode())

    @classmethod
    def load(cls, url: str) -> "Report | None":
        """That of a folder of shards; None where there is none."""
        try:
            return cls.from_dict(json.loads(storage.read(storage.join(url, REPORT))))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
