"""Feature shards by Ray Data: tasks decode shards in pieces, a pool of actors encodes these, and
tasks pack what came of the pieces of a shard."""

import functools
import gc
import itertools
import time
import warnings
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayActorError
from ray.util.annotations import RayDeprecationWarning

from raytrain.bulk.features_folder import FeaturesFolder
from raytrain.bulk.pieces import OBSERVED, REASONS, ROWS, SHARD, Pieces, array, decode, write
from raytrain.data import codecs
from raytrain.data.augment import AugmentConfig, augmented
from raytrain.data.features import Features
from raytrain.data.manifest import FEATURE, Manifest, Shard
from raytrain.data.shards import LONLAT
from raytrain.data.spread import make_quiet, users_errors
from raytrain.encoders.frozen import FrozenEncoder, InputConfig
from raytrain.errors import UserError

IMAGE_BATCHES, TEXT_BATCHES = 4, 16  # of a piece; texts are sorted by length within one
PACKING = 4  # shards that are packed at a time, at most
RESTARTS = 3


class Featured(NamedTuple):
    """Feature shards; of their rows so many were there before, and the others took so many seconds.
    `skipped` counts by reason the rows of raw shards that could not be used."""

    manifest: Manifest
    before: int
    seconds: float
    skipped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The actors that encode: how many (null: one a CPU or GPU), and torch threads of each."""

    gpu: bool = False
    actors: int | None = None
    threads: int = 1

    def size(self) -> int:
        """Actors, on the cluster that runs. Raises UserError where there is no room for one."""
        kind, each = ("GPU", 1) if self.gpu else ("CPU", self.threads)
        there = int(ray.cluster_resources().get(kind, 0))
        if self.actors is None and there < each:
            raise UserError(
                f"an actor needs {each} {kind}, and the cluster has {there}; leave --gpu out or "
                "lower --threads, or say --actors where nodes come when they are asked for"
            )
        return self.actors or there // each

    @property
    def holds(self) -> dict[str, int]:
        """What Ray holds for each."""
        return {"num_cpus": self.threads, **({"num_gpus": 1} if self.gpu else {})}


def open_features(features: Features, overwrite: bool = False) -> FeaturesFolder:
    """The folder or URL for features, new or to be gone on with. Raises UserError where the encoder
    cannot read the shards, and where other features are there, unless `overwrite` lets them go."""
    return FeaturesFolder(features, features.encoder.build(features.spec), overwrite)


def write_features(
    folder: FeaturesFolder, pool: Pool, on_rows: Callable[[int], None] = lambda rows: None
) -> Featured:
    """Make the feature shards that the folder lacks, by Ray, which must run.

    Batches are filled within a shard: so its bytes do not depend on what is made beside it, or was
    before. `on_rows` hears how many rows are encoded. Where an actor is lost, with its node or for
    want of memory, all begins again behind the shards that are done. Raises UserError for what
    cannot be read, encoded or written.
    """
    began = time.perf_counter()
    before = folder.rows
    for restarts in itertools.count() if folder.manifest is None else ():
        gc.collect()  # of a pool that lost an actor, what the error holds: the other actors
        try:
            with users_errors():
                _write_missing(folder, pool, on_rows)
            folder.finish()
            break
        except RayActorError as error:
            if restarts == RESTARTS:
                raise UserError(
                    f"actors were lost {restarts + 1} times ({type(error).__name__}), for want of "
                    "memory or with their nodes; lower `batch`, or run the same command again, "
                    "which goes on"
                ) from None
    assert folder.manifest is not None
    return Featured(folder.manifest, before, time.perf_counter() - began, folder.skipped)


def _write_missing(folder: FeaturesFolder, pool: Pool, on_rows: Callable[[int], None]) -> None:
    """Hand the pieces of each shard, as they come, to a task that packs them."""
    pieces = _missing(folder)
    if not pieces.shards:
        return
    pack, rows = ray.remote(num_cpus=0)(write), folder.rows
    packing: dict[ray.ObjectRef[Any], str] = {}

    def wait(most: int) -> None:
        while len(packing) > most:
            (ref,), _ = ray.wait([*packing])
            ray.get(ref)
            folder.add(packing.pop(ref))

    with closing(_encoded(folder.features, pieces, pool)) as blocks:  # and its actors with it
        for shard in pieces.shards:
            found = []
            for number in range(pieces.count(shard)):
                found.append(next(blocks))
                rows += min(pieces.rows, shard.samples - number * pieces.rows)
                on_rows(rows)
            packing[pack.remote(folder.url, folder.field, shard, *found)] = shard.name
            wait(PACKING)
    wait(0)


def _missing(folder: FeaturesFolder) -> Pieces:
    """What is to be read still."""
    features = folder.features
    batches = TEXT_BATCHES if features.spec.is_text else IMAGE_BATCHES
    return Pieces(
        url=features.url,
        shards=[shard for shard in features.manifest.shards if shard.name not in folder.done],
        layout=features.manifest.layout,
        name=features.field,
        field=features.read,
        rows=folder.batch * batches,
    )


def _encoded(features: Features, pieces: Pieces, pool: Pool) -> Generator[Any, None, None]:
    """References to blocks of one row, the features of a piece, in the order of the pieces."""
    numbers = [{SHARD: number} for number in range(len(pieces.shards))]
    dataset = ray.data.from_items(numbers, override_num_blocks=len(numbers))
    context = dataset.context
    make_quiet(context)
    context.target_max_block_size = 1  # a piece is one row and one block
    context.execution_options.preserve_order = True
    actors = min(pool.size(), sum(map(pieces.count, pieces.shards)))
    decoded = dataset.map_batches(
        functools.partial(decode, pieces=pieces),
        batch_size=1,
        # On CPUs the actors have all of them; decoding takes little beside encoding.
        num_cpus=1 if pool.gpu else 0,
        concurrency=None if pool.gpu else min(actors, len(numbers)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # of max_restarts, by Ray 2.64
        encoded = decoded.map_batches(
            _Encode,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(features, pieces.shards, pool),
            compute=ray.data.ActorPoolStrategy(size=actors),
            max_restarts=0,  # with others Ray prints an error for each; see write_features
            **pool.holds,
        )
    for bundle in encoded.iter_internal_ref_bundles():
        yield from bundle.block_refs


class _Encode:
    """An actor, which encodes pieces."""

    def __init__(self, features: Features, shards: list[Shard], pool: Pool) -> None:
        import torch

        torch.set_num_threads(pool.threads)
        device = "cuda" if pool.gpu else "cpu"
        self.features, self.shards = features, shards
        self.encoder = features.encoder.build(features.spec, device, pool.threads)

    def __call__(self, piece: pa.Table) -> dict[str, list[Any]]:
        is_text, config = self.features.spec.is_text, self.features.encoder
        observations = piece[OBSERVED][0].as_py() if is_text else array(piece, OBSERVED)
        if isinstance(config, InputConfig) and config.views > 1:
            shard, rows = self.shards[piece[SHARD][0].as_py()], array(piece, ROWS)
            found = encode_views(self.encoder, config, observations, shard, rows)
        else:
            found = self.encoder.encode(observations)
        same = {name: [piece[name][0].as_py()] for name in (LONLAT, REASONS)}
        return {FEATURE: [codecs.encode_npy(found)], **same}


def encode_views(
    encoder: FrozenEncoder,
    config: InputConfig,
    images: NDArray[Any],
    shard: Shard,
    rows: NDArray[np.int64],
) -> NDArray[np.float16]:
    """Features [n, views, d] of images [n, c, h, w], the rows of a shard: as they are, and of views
    that are drawn for each row by the name of its shard alone."""
    rng = np.random.default_rng(zlib.crc32(shard.name.encode()))
    draws = rng.random((shard.samples, config.views - 1, 4))[rows]
    side = max(1, round(config.view_crop * min(images.shape[2:])))
    augment = AugmentConfig(flip=True, crop_px=side)
    views = (augmented(images, draws[:, view], augment) for view in range(config.views - 1))
    return np.stack([encoder.encode(view) for view in itertools.chain([images], views)], axis=1)
