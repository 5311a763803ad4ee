"""Places a second that `raytrain.embed` writes, and the memory that its driver needs for them.

    python benchmarks/embed.py [--places 1000000] [--dtype float32] [--output embed.json]

The encoder is the default one, not trained; the places are a global grid of about so many cells.
"""

import argparse
import json
import resource
import tempfile
from pathlib import Path
from typing import get_args

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.evaluation import roster
from raytrain.evaluation.embeddings import Dtype, Grid, write_embeddings
from raytrain.settings import to_dict
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect


def peak_mb() -> float:
    """Most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    connect(ScalingConfig())
    with tempfile.TemporaryDirectory() as folder:
        config = LocationEncoderConfig()
        save_location_encoder(f"{folder}/run", {"location": to_dict(config)}, config.build())
        encode = roster.encoder(f"{folder}/run")
        before = peak_mb()
        grid = Grid((180 * 360 / args.places) ** 0.5)
        written = write_embeddings(encode, grid, f"{folder}/out", args.dtype)
        size = sum(file.stat().st_size for file in Path(folder, "out").iterdir())
    figures = {
        "places": written.rows,
        "dim": written.dim,
        "dtype": args.dtype,
        "seconds": round(written.seconds, 1),
        "places_per_s": round(written.rows / written.seconds),
        "gb_written": round(size / 1e9, 2),
        "driver_peak_mb": round(peak_mb()),
        "driver_peak_mb_before": round(before),
    }
    print(json.dumps(figures, indent=1))
    if args.output:
        args.output.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
