"""Streams against plain webdataset with a DataLoader of two workers, on the same cores, in turn;
or from S3 against the same from disk.

    python benchmarks/streams.py [--samples 20000] [--repeats 3] [--s3 URL] [--output streams.json]

Two data sets are made: JPEG tiles (256 px, cropped to 224 px and flipped) one a sample, which both
read from the same shards; and features (384 float16), which webdataset reads one a sample and the
stream as columns, many rows a member. Both shuffle, batch by 256 and end in torch tensors; the
figures are samples/s after the first batch, medians over the repeats, and their ratio.

With `--s3`, a folder of an S3 server, the streams are compared with themselves instead: read from
there and from the disk here. A server on this machine, which takes its share of the cores:

    export AWS_ACCESS_KEY_ID=raytrain AWS_SECRET_ACCESS_KEY=for-tests
    weed mini -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=/tmp/weed -admin.ui=false -bucket=bucket &
    AWS_ENDPOINT_URL=http://127.0.0.1:8333 python benchmarks/streams.py --s3 s3://bucket/streams
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import simplejpeg
import torch
import webdataset
from numpy.typing import NDArray

from raytrain import storage
from raytrain.data.augment import AugmentConfig, augmented
from raytrain.data.manifest import Field, Manifest
from raytrain.data.reader import Reader, by_ray
from raytrain.data.streams import Stream
from raytrain.data.writer import Observations, write_shards
from raytrain.geo import random_on_sphere
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect

BATCH, CROP = 256, AugmentConfig(flip=True, crop_px=224)


def make_tiles(folder: Path, samples: int, rng: np.random.Generator) -> None:
    """JPEG tiles of real imagery: 256 px cuts of the embedded Blue Marble."""
    world = simplejpeg.decode_jpeg(
        (storage.datasets_dir() / "earth-mini" / "satellite.jpg").read_bytes()
    )
    corners = rng.integers(0, [world.shape[0] - 256, world.shape[1] - 256], (samples, 2))

    def take(index: NDArray[np.int64]) -> dict[str, list[bytes]]:
        cuts = (world[r : r + 256, c : c + 256] for r, c in corners[index])
        return {"tile": [simplejpeg.encode_jpeg(np.ascontiguousarray(cut), 90) for cut in cuts]}

    field = Field(dtype="uint8", shape=(3, 256, 256), encoding="jpg")
    tiles = Observations(
        lonlat_deg=random_on_sphere(samples, rng),
        fields={"tile": field},
        take=take,
        layout="samples",
    )
    write_shards(str(folder), tiles, modality="tiles", shard_rows=512)


def make_features(folder: Path, samples: int, rng: np.random.Generator, layout: str) -> None:
    features = rng.standard_normal((samples, 384), dtype=np.float32).astype(np.float16)
    made = Observations.of_arrays(random_on_sphere(samples, rng), {"features": features})
    made = Observations(
        lonlat_deg=made.lonlat_deg, fields=made.fields, take=made.take, layout=layout
    )
    write_shards(str(folder), made, modality="features", shard_rows=4096)


def stream_rate(url: Path | str, field: str, augment: AugmentConfig, batches: int) -> float:
    """Samples/s of our stream, consumed in this process."""
    stream = Stream(
        modality=field, url=str(url), manifest=Manifest.load(str(url)), observation=field,
        augment=augment, rows_wanted=BATCH * (batches + 4),
    )  # fmt: skip
    iterator = stream.dataset(0, 1, ray.get_runtime_context().get_node_id(), reads=4).iterator()
    reader = Reader(stream, lambda: by_ray(iterator, BATCH), 1, 0.0, lambda *_: None)
    return rate(reader, batches)


def webdataset_rate(folder: Path, suffix: str, batches: int) -> float:
    """Samples/s of plain webdataset and a DataLoader of two workers."""
    shards = sorted(map(str, folder.glob("train-*.tar")))
    pipeline = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(1000)
        .decode("torchrgb8")
        .to_tuple("json", suffix)
        .map(cropped if suffix.endswith("jpg") else plain)
        .batched(BATCH, partial=False)
        .repeat()
    )
    loader = webdataset.WebLoader(
        pipeline,
        batch_size=None,
        num_workers=2,
        prefetch_factor=4,
        multiprocessing_context="forkserver",  # forked from beside Ray's threads it may hang
    )
    return rate(iter(loader), batches)


def plain(sample: tuple[dict[str, float], Any]) -> tuple[NDArray[np.float64], Any]:
    place, observation = sample
    return np.array([place["lon"], place["lat"]]), observation


def cropped(sample: tuple[dict[str, float], Any]) -> tuple[NDArray[np.float64], Any]:
    place, image = plain(sample)
    draws = np.random.default_rng().random((1, 4))
    return place, augmented(image.numpy()[None], draws, CROP)[0]


def rate(batches_of: Iterator[Any], batches: int) -> float:
    next(batches_of)
    began = time.perf_counter()
    for _ in range(batches):
        next(batches_of)
    return batches * BATCH / (time.perf_counter() - began)


def compare(
    first: Callable[[], float], second: Callable[[], float], names: tuple[str, str], repeats: int
) -> dict[str, Any]:
    rows = [dict(zip(names, (first(), second()), strict=True)) for _ in range(repeats)]
    medians = {name: statistics.median(row[name] for row in rows) for name in names}
    ratio = medians[names[0]] / medians[names[1]]
    return {"ratio": ratio, "of": names, "medians": medians, "samples_per_s": rows}


def against_webdataset(folder: Path, tiles: int, features: int, repeats: int) -> dict[str, Any]:
    names = ("raytrain", "webdataset")
    return {
        "JPEG tiles": compare(
            lambda: stream_rate(folder / "tiles", "tile", CROP, tiles),
            lambda: webdataset_rate(folder / "tiles", "tile.jpg", tiles),
            names,
            repeats,
        ),
        "features": compare(
            lambda: stream_rate(folder / "columns", "features", AugmentConfig(), 4 * features),
            lambda: webdataset_rate(folder / "samples", "features.npy", features // 4),
            names,
            repeats,
        ),
    }


def from_s3(folder: Path, url: str, tiles: int, features: int, repeats: int) -> dict[str, Any]:
    """The same streams from `url`, to which the shards are copied, and from the disk."""
    for path in folder.rglob("*.*"):
        storage.write(storage.join(url, str(path.relative_to(folder))), path.read_bytes())
    streams = {
        "JPEG tiles": ("tiles", "tile", CROP, tiles),
        "features": ("columns", "features", AugmentConfig(), 4 * features),
    }
    return {
        kind: compare(
            lambda shards=shards: stream_rate(f"{url}/{shards[0]}", *shards[1:]),
            lambda shards=shards: stream_rate(folder / shards[0], *shards[1:]),
            ("S3", "disk"),
            repeats,
        )
        for kind, shards in streams.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--samples", type=int, default=20_000, help="JPEG tiles; features ×10")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--s3", help="a folder of an S3 server, to compare with the disk")
    parser.add_argument("--output", type=Path, help="JSON of all figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    connect(ScalingConfig())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tiles(folder / "tiles", options.samples, rng)
        for layout in ("columns",) if options.s3 else ("columns", "samples"):
            make_features(folder / layout, 10 * options.samples, rng, layout)
        tiles, features = options.samples // BATCH, 10 * options.samples // BATCH
        sizes = (tiles, features, options.repeats)
        if options.s3:
            result = from_s3(folder, options.s3, *sizes)
        else:
            result = against_webdataset(folder, *sizes)
    for kind, figures in result.items():
        first, second = figures["of"]
        print(f"{kind}: {first} is {figures['ratio']:.2f} × {second}; {figures['samples_per_s']}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))
    ray.shutdown()


if __name__ == "__main__":
    main()
