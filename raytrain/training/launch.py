"""Starting a job on Ray: the only place that knows TorchTrainer."""

import logging
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import ray
import ray.data
import ray.train
from ray.exceptions import RayActorError
from ray.train.torch import TorchTrainer
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytrain.data.streams import Stream, StreamPerRank
from raytrain.errors import UserError
from raytrain.training import checkpoint
from raytrain.training.board import Board, Record
from raytrain.training.config import ScalingConfig
from raytrain.training.job import Job
from raytrain.training.lost import GO_ON, Head, explained
from raytrain.training.worker import run_worker

POLL_S = 0.3
SETTINGS = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # prints of workers would come twice
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # a job's own env_vars may name what is passed on here
    "THP_MEM_ALLOC_ENABLE": "1",  # torch's large tensors in huge pages: fewer page faults
}
# After a loss Ray Train asks for as many workers as there were, until its view of the cluster is
# renewed, every 20 s. By default each such try takes a minute.
ELASTIC_SETTINGS = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
LOCAL_SETTINGS = {  # on this machine alone; on a cluster they are the cluster's
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor more to start, and nobody preempts
    "RAY_idle_worker_killing_time_threshold_ms": "600000",  # a read process takes seconds to start
}
# To a cluster's workers. S3's address and keys are not among it: nodes have their own, by roles or
# from where Ray was started on them, and what is passed on ends in Ray's logs.
PASSED_ON = ("RAYTRAIN_", "OMP_", "MKL_")
SET_UP = "raytrain.training.interface.meet_where_ray_does"  # in each process of a cluster's job


def connect(scaling: ScalingConfig) -> bool:
    """Attach to the cluster that is running here or that RAY_ADDRESS names, else start Ray on this
    machine (RAY_ADDRESS=local: always). Tells whether it is a cluster, to which nodes may come."""
    if ray.is_initialized():
        return False
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    passed_on = {k: v for k, v in os.environ.items() if k in SETTINGS or k.startswith(PASSED_ON)}
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS", "auto")
    if address != "local":
        try:
            environment = {"env_vars": passed_on, "worker_process_setup_hook": SET_UP}
            ray.init(address=address, runtime_env=environment, **quiet)
            return True
        except ConnectionError as error:
            if address != "auto":
                raise UserError(
                    f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); start one, or "
                    "unset RAY_ADDRESS to run on this machine"
                ) from None
    # Reads must find room beside the workers, on the smallest machine too.
    needed = math.ceil((scaling.workers or 1) * scaling.cpus_per_worker) + 1
    cpus = max(needed, os.cpu_count() or 1)
    # Its processes inherit our environment.
    for name, value in LOCAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    _start_here(cpus, quiet)
    return False


def _start_here(cpus: int, quiet: dict[str, Any]) -> None:
    """Start Ray on this machine. It gives itself half a minute, which is too short for a machine
    that is very busy: then once more. Raises UserError."""
    for _ in range(2):
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            return
        except Exception as error:  # of no class of its own
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
    raise UserError(
        "Ray did not start within half a minute, twice: the machine is busy with other things. "
        "Give the same command again when it is not"
    )


def choose_workers(
    scaling: ScalingConfig, say: Callable[[str], None] | None = None
) -> tuple[int, bool]:
    """Number of workers and whether they have GPUs: as set, else one per GPU, else one.

    What the cluster lacks has scaling.wait_minutes to come, where `say` is given to tell the user
    of it. Raises UserError when there is no place for the workers: training would wait for ever.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    use_gpu = gpus > 0 if scaling.gpu is None else scaling.gpu
    workers = scaling.workers or (gpus if use_gpu else 1) or 1
    needed = scaling.min_workers or workers
    if needed > workers:
        raise UserError(
            f"scaling.min_workers={needed} is more than the {workers} of scaling.workers"
        )
    if (lack := _lack(scaling, needed, use_gpu)) is None:
        return workers, use_gpu
    problem, advice = lack
    if say is not None and scaling.wait_minutes > 0:
        say(f"{problem}; waiting up to {scaling.wait_minutes:g} minutes for nodes")
        if _nodes_come(scaling, needed, use_gpu):
            return workers, use_gpu
    raise UserError(f"{problem}; {advice}")


def _lack(scaling: ScalingConfig, workers: int, use_gpu: bool) -> tuple[str, str] | None:
    """What the cluster has too little of, and what to do about it."""
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0), int(there.get("GPU", 0))
    needed = workers * scaling.cpus_per_worker
    if use_gpu and workers > gpus:
        problem = f"scaling.workers={workers} need a GPU each, but the cluster has {gpus}"
        return problem, "lower scaling.workers or set scaling.gpu=false"
    if needed > cpus:
        problem = f"{workers} workers need {needed:g} CPUs, but the cluster has {cpus:g}"
        return problem, "lower scaling.workers or scaling.cpus_per_worker"
    return None


def _nodes_come(scaling: ScalingConfig, workers: int, use_gpu: bool) -> bool:
    """Ask for the room of the run, which an autoscaler starts nodes for, and wait for it."""
    wanted = placement_group([_resources(scaling, use_gpu)] * workers)
    come = bool(wanted.wait(scaling.wait_minutes * 60))
    remove_placement_group(wanted)
    return come


def _resources(scaling: ScalingConfig, use_gpu: bool) -> dict[str, float]:
    """What Ray holds free for each worker."""
    return {"CPU": scaling.cpus_per_worker, **({"GPU": 1} if use_gpu else {})}


def worker_group(scaling: ScalingConfig, workers: int, use_gpu: bool) -> ray.train.ScalingConfig:
    """What Ray Train is asked for: so many workers, or as few as scaling.min_workers."""
    return ray.train.ScalingConfig(
        num_workers=(scaling.min_workers, workers) if scaling.min_workers else workers,
        elastic_resize_monitor_interval_s=scaling.grow_seconds,
        use_gpu=use_gpu,
        resources_per_worker=_resources(scaling, use_gpu),
    )


def launch(job: Job, use_gpu: bool, on_records: Callable[[list[Record]], None]) -> Record:
    """Run the job to its end; returns the outcome of training.loop.train.

    `on_records` gets the workers' records as they come; of {"checkpoint": step}, which is written
    after it returned, it keeps what came before. Ctrl-C asks the workers for a checkpoint
    and an early end. A lost worker is replaced up to scaling.max_failures times; training goes on
    from the last checkpoint. Raises UserError for bad input that a worker met, and for what was
    lost and cannot be replaced.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
    fit = _Fit(_trainer(job, use_gpu, board))
    fit.start()
    _follow(fit, board, on_records)
    if fit.error is not None:
        raise explained(fit.error)
    assert fit.outcome is not None
    return fit.outcome


def _trainer(job: Job, use_gpu: bool, board: Any) -> TorchTrainer:
    scaling = job.config.scaling
    for name, value in ELASTIC_SETTINGS.items() if scaling.min_workers else ():
        os.environ.setdefault(name, value)
    return TorchTrainer(
        run_worker,
        train_loop_config={"job": job, "board": board},
        scaling_config=worker_group(scaling, job.workers, use_gpu),
        datasets={name: _Positioned(job, name) for name in job.streams},
        dataset_config=StreamPerRank(scaling.cpus_per_worker),
        run_config=ray.train.RunConfig(
            name=job.config.name,
            storage_path=job.run_url.rpartition("/")[0],
            failure_config=ray.train.FailureConfig(max_failures=scaling.max_failures),
        ),
    )


def _follow(fit: "_Fit", board: Any, on_records: Callable[[list[Record]], None]) -> None:
    """Hand records on, and hear Ctrl-C, until the fit has ended or the head does not answer."""
    head = Head()
    while not fit.ended.is_set():
        try:
            head.check()
            fit.ended.wait(POLL_S)  # join() takes a thread that Ctrl-C interrupts it at for ended
            on_records(_taken(board))
        except KeyboardInterrupt:
            if fit.asked:
                raise
            fit.asked = True
            board.ask_to_stop.remote()
            on_records([{"notice": "stopping with a checkpoint; Ctrl-C again stops at once"}])
        except SystemExit:  # so a sweep ends a trial early; its workers' place is wanted
            board.ask_to_stop.remote()
            while not fit.ended.wait(POLL_S):
                _taken(board)  # without which they would wait with their last checkpoint
            raise
    on_records(_taken(board))


class _Positioned:
    """Makes a modality's stream, at the newest checkpoint's position, at each (re)start."""

    def __init__(self, job: Job, name: str) -> None:
        self.job, self.name = job, name

    def __call__(self) -> Stream:
        start = checkpoint.latest(self.job.run_url)
        return self.job.streams_from(start.positions if start else {})[self.name]


class _Fit(threading.Thread):
    """Trainer.fit() beside the main thread, which shows progress and hears Ctrl-C."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(daemon=True)
        self.trainer, self.asked, self.ended = trainer, False, threading.Event()
        self.outcome: Record | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.outcome = self.trainer.fit().return_value
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()


def _taken(board: Any) -> list[Record]:
    try:
        records: list[Record] = ray.get(board.take.remote())
    except RayActorError as error:
        reason = f"the Ray cluster was lost while training ({type(error).__name__})"
        raise UserError(f"{reason}; {GO_ON}") from None
    for record in records:
        if "error" in record:  # bad input: no restart will mend it
            raise UserError(record["error"])
    return records
