"""Balanced sampling, negatives that are near, and a temperature a modality: does any of them help?

    python -m raytrain.prepare satellite vegetation atmosphere --root earth --places 300000
    python -m raytrain.prepare tasks
    python benchmarks/sampling.py [--folder sampling] [--only ARM …] [--seeds 0 1 2]

Every run is the default on earth, of 150 steps of 3 x 512 pairs and not 300, with the settings of
its arm. In arms that begin with `towns` the satellite patches are as many, but cluster as photos
do: around GeoNames's 155,210 towns, each as likely as any other, scattered by 10 km, on land. Then
one evaluation of all on 10° blocks, five splits. Runs that are complete are not repeated. They
train in this process, without Ray: the losses are those of raytrain.pretrain.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from without_ray import evaluate, pretrain

from raytrain import geo
from raytrain.data.cards import EARTH, card_names, load_card
from raytrain.data.manifest import Field
from raytrain.data.sources.files import Context
from raytrain.data.sources.land import land_pixels
from raytrain.data.sources.places import geonames
from raytrain.data.sources.rasters import Patches, RasterSource, read_raster
from raytrain.data.writer import Observations, Observed, write_shards

STEPS, SCATTER_KM = 150, 10.0
CROWDED, OTHERS = "satellite", "vegetation,atmosphere"
SCALE = "objective.logit_scale"
HALF, ONE = ["data.balance.exponent=0.5"], ["data.balance.exponent=1"]


def near(kind: str, km: int) -> list[str]:
    return [f"objective.near.kind={kind}", f"objective.near.km={km}"]


ARMS = {
    "default": [],
    "balance-half": HALF,
    "balance-one": ONE,
    **{f"mask-{km}": near("mask", km) for km in (25, 100, 500)},
    **{f"soft-{km}": near("soft", km) for km in (100, 500)},
    "scale-learned": [f"{SCALE}.learned=true"],
    "scales-learned": [f"{SCALE}.learned=true", f"{SCALE}.per_modality=true"],
    "scales-fixed": [
        f"{SCALE}.per_modality=true",
        f"{SCALE}.init_of={{satellite: 10, vegetation: 5, atmosphere: 2.5}}",
    ],
    "towns": [],
    "towns-half": HALF,
    "towns-one": ONE,
    "towns-mask-100": near("mask", 100),
    "towns-soft-100": near("soft", 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", default="sampling", help="where shards, runs and page go")
    parser.add_argument("--only", nargs="+", metavar="ARM", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of training")
    parser.add_argument("--no-evaluation", action="store_true")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    runs = [train(folder, arm, seed) for seed in options.seeds for arm in options.only]
    if not options.no_evaluation:
        evaluate(runs, folder, "skip=geoclip")


def train(folder: Path, arm: str, seed: int) -> str:
    """Train an arm, unless it is there; returns the run's folder."""
    modalities = f"{towns(folder)},{OTHERS}" if arm.startswith("towns") else f"{CROWDED},{OTHERS}"
    return pretrain(
        [
            f"name={arm}-{seed}",
            f"storage={folder}",
            f"seed={seed}",
            f"data.root={EARTH}",
            f"data.modalities={modalities}",
            f"training.steps={STEPS}",
            *ARMS[arm],
        ]
    )


def towns(folder: Path) -> str:
    """The card of patches around towns; made with its shards on first use."""
    shards, path = folder / "towns", folder / f"{CROWDED}.yaml"
    if path.exists():
        return str(path)
    card = load_card(CROWDED)
    source = card.source
    assert isinstance(source, RasterSource)
    raster = read_raster(source.file, card.folder)
    patches = Patches(raster, source.patch_px, source.strides, source.true_scale)
    names = tuple(n for n in card_names() if isinstance(load_card(n).source, RasterSource))
    context = Context(modality=CROWDED, field=card.field, folder=folder, dealt_among=names)
    places = around_towns(land_pixels(context, source.latitudes), n=300_000)

    def take(index: NDArray[np.int64]) -> Observed:
        return {card.field: patches.at(places[index])}

    fields = {card.field: Field(dtype=source.dtype, shape=patches.shape, units=source.units)}
    offered = Observations(lonlat_deg=places, fields=fields, take=take)
    write_shards(str(shards), offered, modality=CROWDED, licence=card.licence, credit=card.credit)
    same = f"field: {card.field}\naugment: {{flip: true}}\n"
    path.write_text(f"{same}tower: {{kind: cnn, patch_px: 4, width: 64}}\nshards: {shards}\n")
    return str(path)


def around_towns(allowed: NDArray[np.bool_], n: int) -> NDArray[np.float64]:
    """n places [n, 2] on the allowed pixels, each near a town."""
    rng = np.random.default_rng(0)
    where = geonames()[["longitude", "latitude"]].to_numpy(np.float64)
    where = where[np.abs(where[:, 1]) < 84]
    found: list[NDArray[np.float64]] = []
    while sum(map(len, found)) < n:
        near = where[rng.integers(len(where), size=n)]
        step_deg = rng.normal(0, np.degrees(SCATTER_KM / geo.EARTH_RADIUS_KM), (n, 2))
        step_deg[:, 0] /= np.cos(np.radians(near[:, 1]))
        near = np.stack([geo.wrap_lon(near[:, 0] + step_deg[:, 0]), near[:, 1] + step_deg[:, 1]], 1)
        found.append(near[allowed[geo.raster_pixels(near, *allowed.shape)]])
    return np.concatenate(found)[:n]


if __name__ == "__main__":
    main()
