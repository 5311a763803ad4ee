"""All rows of a source that has few, as one table, and what `prepare` would leave out."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain.data.packing import Observed
from raytrain.data.passes import lonlat_of, sifted
from raytrain.data.report import Report
from raytrain.data.rows import RowSource
from raytrain.data.sources.files import Context
from raytrain.data.writer import Observations


def in_memory(source: RowSource, context: Context) -> Observations:
    """In the order of its parts."""
    report = Report()
    parts = source.parts(context)
    tables = (rows for part in parts for rows in source.rows(part, context))
    rows = pa.concat_tables(sifted(table, source, report) for table in tables)

    def take(index: NDArray[np.int64]) -> Observed:
        return source.observe(rows.take(pa.array(index)), context)[0]

    return Observations(
        lonlat_deg=lonlat_of(rows),
        fields=source.fields(context),
        take=take,
        layout=source.layout,
        dropped=report.bad,
    )
