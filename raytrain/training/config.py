"""RunConfig: everything that a pretraining run is determined by."""

import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from raytrain.data.balance import BalanceConfig
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.objective.methods import MethodConfig
from raytrain.objective.model import ObjectiveConfig
from raytrain.settings import SettingsError, Tree, load_yaml
from raytrain.training.optim import OptimConfig

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which modalities, from where. `root` is `earth-mini` (embedded, prepared on first use),
    `earth` (made by `python -m raytrain.prepare earth`), or a folder or URL of shards.

    `modalities` are cards: names in datasets/ or paths of YAML files. Undecodable samples are
    replaced by others, counted and shown; more than `max_skipped_share` of a modality is an error.
    `balance` says how often places of crowded regions are drawn, `balance_of` the same by modality.
    """

    root: str = "earth-mini"
    modalities: tuple[str, ...] = ("satellite", "vegetation", "atmosphere")
    max_skipped_share: float = 0.001
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    balance_of: dict[str, BalanceConfig] = field(default_factory=dict)
    verify: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and in what batches.

    `batch` is the number of pairs of each modality in a step, over all workers; `places` sets it
    by modality, and `batch_per_worker` in its stead scales it with the number of workers. `pairs`
    in its stead is shared by the modalities of a step, however many these are. `epochs`
    replaces `steps` where it is given: see method.kind for what an epoch is. `accumulate` > 1
    embeds the batch in so many parts to save memory; the negatives stay those of the whole batch.
    """

    steps: int = 300
    epochs: int | None = None
    batch: int = 512
    batch_per_worker: int | None = None
    pairs: int | None = None
    places: dict[str, int] = field(default_factory=dict)
    accumulate: int = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: int = 200
    validate_every: int = 200
    validation_places: int = 2048
    keep_checkpoints: int = 2
    log_every: int = 10


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Ray workers. `workers: null` is one per GPU of the cluster, or one on CPUs.

    With `min_workers` a run begins, and after a loss goes on, with fewer where there is no room for
    all, and takes more in as room comes (looked for every `grow_seconds`). A step stays what it is:
    fewer workers share the batch among them.
    On a cluster that has no room for them, the run waits `wait_minutes` for nodes to come.
    """

    workers: int | None = None
    min_workers: int | None = None
    grow_seconds: float = 60.0
    gpu: bool | None = None
    cpus_per_worker: float = 1.0
    threads_per_worker: int | None = None
    max_failures: int = 3
    wait_minutes: float = 15.0


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """MLflow: MLFLOW_TRACKING_URI if the environment has it, else a sqlite file here.

    Null leaves it out; metrics are in metrics.jsonl of the run either way.
    """

    uri: str | None = field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    )
    experiment: str = "raytrain"


@dataclass(frozen=True, kw_only=True)
class EvaluatorConfig:
    """Probes of the frozen embedding on 10° blocks, with so many splits: at the end of a run, and
    while it trains every so many steps (null: not), beside it and without stopping it.

    `tasks` are cards: names in datasets/tasks, with the labels of earth-mini, or paths of YAML
    files. `every_of` sets the cadence by task.
    """

    tasks: tuple[str, ...] = ("air_temperature", "airport_elevation", "igbp")
    seeds: int = 3
    every: int | None = None
    every_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := {*self.every_of} - {*self.names}:
            raise ValueError(
                f"evaluate.every_of: {min(unknown)} is not among evaluate.tasks "
                f"({', '.join(self.names)})"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(Path(task).stem for task in self.tasks)

    def due(self, step: int) -> tuple[str, ...]:
        """The tasks to be scored after `step`, by name."""
        every = {name: self.every_of.get(name, self.every) for name in self.names}
        return tuple(name for name, steps in every.items() if steps and step % steps == 0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One pretraining run. The defaults train MELT on earth-mini on a laptop in two minutes.

    A run lives in `storage`/`name`, a folder or URL; where the environment has RAYTRAIN_STORAGE, as
    a cluster's nodes do, that is the default. The same name goes on where the run stopped;
    without a name a new one is made. `overwrite` starts a run of that name from the beginning.
    """

    name: str | None = None
    storage: str = field(default_factory=lambda: os.environ.get("RAYTRAIN_STORAGE", "runs"))
    overwrite: bool = False
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    location: LocationEncoderConfig = field(default_factory=LocationEncoderConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    evaluate: EvaluatorConfig = field(default_factory=EvaluatorConfig)

    def __post_init__(self) -> None:
        if self.location.kernel and self.objective.kind == "contrast":
            raise ValueError(
                "location.kernel reads the heads of regression, and objective.kind=contrast has "
                "none; take objective.kind=both, or leave the kernel out (location.kernel=null)"
            )


def new_run_name(config: RunConfig) -> str:
    """A name by method and time, as in melt-20260131-120000."""
    return f"{config.method.kind}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def load_recipe(name_or_path: str) -> Tree:
    """Settings of a recipe that comes with raytrain, or of a YAML file. Raises SettingsError."""
    path = Path(name_or_path)
    if not path.suffix:
        path = RECIPES / f"{name_or_path}.yaml"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
            raise SettingsError(
                f"there is no recipe `{name_or_path}`; there are: {known}, or give a YAML file"
            )
    return load_yaml(path)
