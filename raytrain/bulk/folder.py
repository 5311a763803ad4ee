"""A folder of embeddings that an interrupted command goes on with.

Every part of the input has a file of its own, whose name says which and which appears complete or
not at all. So what is there need not be done again, and nothing can be there twice.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
from pyarrow.fs import FSSpecHandler, PyFileSystem

from raytrain import storage
from raytrain.data.rows import REASON
from raytrain.errors import UserError

DESCRIPTION, LEFT_OUT = "_embedding.json", "_left_out"  # readers skip what begins with _
OURS = re.compile(rf"({LEFT_OUT}/)?\d{{5,}}-\d{{6,}}\.parquet|{DESCRIPTION}")


def part_name(source: int, part: int) -> str:
    """The file of a part of an input file."""
    return f"{source:05d}-{part:06d}.parquet"


class EmbeddingFolder:
    """The folder or URL `output` with the embeddings that `description` describes: of what places,
    by what encoder, in what parts and type.

    Opening it makes room: an interrupted embedding of the same description stays, to be gone on
    with; with `overwrite` what an embedding wrote goes. Raises UserError where there is anything
    else.
    """

    def __init__(self, output: str, description: Mapping[str, Any], overwrite: bool) -> None:
        self.output, self.url = output, storage.absolute(output).rstrip("/")
        self.description = dict(description)
        there = {file.removeprefix(f"{self.url}/"): file for file in self._files()}
        if foreign := [file for name, file in there.items() if not OURS.fullmatch(name)]:
            raise UserError(f"{output} holds {foreign[0]}, which must stay; name another --output")
        if overwrite:
            for file in there.values():
                storage.remove(file)
            there = {}
        stored = self._stored() if DESCRIPTION in there else None
        if stored is None and there:
            raise UserError(f"{output} has no {DESCRIPTION}; name another --output")
        self.parts = {name for name in there if name[0].isdigit()}
        self.complete = stored is not None and "rows" in stored
        self.rows, self.left_out = self._counted()
        if stored is None:
            self._describe()

    def finish(self, rows: int, left_out: Mapping[str, int], parts: set[str]) -> None:
        """Say that it is complete. Raises UserError where parts are not there, since other nodes
        wrote them to disks of their own."""
        there = {file.removeprefix(f"{self.url}/") for file in self._files()}
        if missing := parts - there:
            raise UserError(
                f"{self.output}: {len(missing)} of {len(parts)} files are on disks of other nodes; "
                "give --output a URL, or a folder that all nodes share"
            )
        for file in storage.files(self.url):
            if file.endswith(".part"):  # of writers that were killed
                storage.remove(file)
        self.parts = parts
        self._describe(rows=rows, left_out=dict(left_out))

    def _files(self) -> list[str]:
        """What is there but the beginnings of files whose writers were killed."""
        return [file for file in storage.files(self.url) if not file.endswith(".part")]

    def _stored(self) -> dict[str, Any]:
        """The description that is there, if it is of the same embedding."""
        stored: dict[str, Any] = json.loads(storage.read(f"{self.url}/{DESCRIPTION}"))
        for key, value in self.description.items():
            if stored.get(key) != value:
                raise UserError(
                    f"{self.output} holds an embedding with another {key}; name another --output, "
                    "or give --overwrite"
                )
        return stored

    def _describe(self, **more: Any) -> None:
        content = json.dumps({**self.description, **more}, indent=1) + "\n"
        storage.write(f"{self.url}/{DESCRIPTION}", content.encode())

    def _counted(self) -> tuple[int, Counter[str]]:
        """Embeddings that are there, and rows left out by reason."""
        if not self.parts:
            return 0, Counter()
        filesystem, path = storage.filesystem(self.url)
        arrow = PyFileSystem(FSSpecHandler(filesystem))

        def dataset(folder: str, names: set[str]) -> pyarrow.dataset.Dataset:
            files = [f"{folder}/{name}" for name in sorted(names)]
            return pyarrow.dataset.dataset(files, filesystem=arrow, format="parquet")

        left_out: Counter[str] = Counter()
        bad = {f.rpartition("/")[2] for f in storage.files(f"{self.url}/{LEFT_OUT}")} & self.parts
        for batch in dataset(f"{path}/{LEFT_OUT}", bad).to_batches(columns=[REASON]) if bad else ():
            for count in batch.column(0).value_counts().to_pylist():
                left_out[count["values"]] += count["counts"]
        return int(dataset(path, self.parts).count_rows()), left_out
