"""Runs whose processes are killed at random, against the run that nothing disturbed.

    python benchmarks/faults.py [--kills 50] [--seed 0] [--folder faults] [--output faults.json]

Two workers on a CPU train for 300 steps. Each kill is SIGKILL, at a time drawn from the seed, to
one process, drawn too: a worker, the controller of Ray Train, the raylet (the node), or the command
itself. What does not recover by itself is started again by the same command. Each run takes up to
five kills. At its end its weights must be those of the undisturbed run bit for bit, and the samples
that its streams count must be those of all steps, none lost and none twice.

Recovery is from the kill to the first step that is new: `restart` until training goes on from a
checkpoint, `repeat` from there, with the steps that were done already.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from raytrain.data.visits import rows_taken
from raytrain.training import checkpoint
from raytrain.training.checkpoint import CheckpointError

STEPS, BATCH, WORKERS, KILLS_A_RUN = 300, 256, 2, 5
SETTINGS = [
    f"training.steps={STEPS}", f"training.batch={BATCH}", "training.checkpoint_every=25",
    "training.validate_every=1000", "training.log_every=1", f"scaling.workers={WORKERS}",
    "scaling.threads_per_worker=1", "scaling.max_failures=-1", "tracking.uri=null",
    "evaluate.tasks=igbp", "evaluate.seeds=1",
]  # fmt: skip
VICTIMS = {"worker": "RayTrainWorker", "controller": "TrainController", "raylet": "raylet/raylet"}


class Run:
    """One run, whose command is started as often as it takes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.url, self.kills = folder / name, list[dict[str, Any]]()
        self.said: list[str] = []
        self.command = [sys.executable, "-u", "-m", "raytrain.pretrain", f"name={name}"]
        self.command += [f"storage={folder}", *SETTINGS]

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=[self.process], daemon=True).start()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        """Note when training goes on after a kill."""
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            goes_on = "training goes on from step" in line or line.startswith("first step")
            if goes_on and self.kills:
                self.kills[-1].setdefault("goes_on_s", time.time())

    def finish(self, kills: int, rng: np.random.Generator) -> None:
        """Run to the end, with so many kills on the way."""
        self.start()
        starts = 1
        while self.process.poll() is None or not self.is_complete():
            if self.process.poll() is not None:
                if starts > len(self.kills):
                    sys.exit(f"{self.url.name} ended by itself:\n{''.join(self.said)}")
                self.start()
                starts += 1
            if len(self.kills) < kills and self.trains():
                time.sleep(rng.uniform(0, 4))
                self.kill(rng)
            time.sleep(0.1)

    def is_complete(self) -> bool:
        """Whether there is a checkpoint of the last step."""
        with suppress(CheckpointError):  # a first one that was not written to its end
            found = checkpoint.latest(str(self.url), say=lambda fault: None)
            return found is not None and found.step == STEPS
        return False

    def trains(self) -> bool:
        """Whether a step that is new was done since training went on after the last kill."""
        times = self.times()
        since = self.kills[-1].get("goes_on_s", math.inf) if self.kills else 0.0
        new = [at for at in times.values() if at > since]
        if new and self.kills:
            self.kills[-1].setdefault("new_step_s", min(new))
        return bool(new) and max(times) < STEPS - 20

    def times(self) -> dict[int, float]:
        """When each step was done, as far as metrics.jsonl is written."""
        try:
            lines = (self.url / "metrics.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {r["step"]: r["time_s"] for r in map(json.loads, lines) if "time_s" in r}

    def kill(self, rng: np.random.Generator) -> None:
        victim = str(rng.choice([*VICTIMS, "command"]))
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            found = psutil.Process(self.process.pid).children(recursive=True)
            named = [p for p in found if VICTIMS.get(victim, "") in " ".join(p.cmdline())]
            if victim == "command":
                os.killpg(self.process.pid, signal.SIGKILL)
                psutil.wait_procs(found, timeout=60)  # Ray ends with its driver
            elif named:
                named[int(rng.integers(len(named)))].kill()
            else:
                return
            self.kills.append({"victim": victim, "at_s": time.time()})


def same(run: Run, whole: Run) -> dict[str, bool]:
    """What must be as in the undisturbed run."""
    ends = [checkpoint.latest(str(r.url)) for r in (run, whole)]
    weights = [
        {p.name: p.read_bytes() for p in Path(end.url).glob("*.safetensors")} for end in ends if end
    ]
    taken = [rows_taken(position) for end in ends[:1] if end for position in end.positions.values()]
    return {
        "weights": weights[0] == weights[1],
        "samples": taken == [STEPS * BATCH] * len(taken),
    }


def spread(seconds: list[float]) -> dict[str, float]:
    return {
        name: round(float(np.quantile(seconds, q)), 1)
        for name, q in (("median", 0.5), ("fastest", 0.0), ("slowest", 1.0))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("faults"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder, rng = options.folder.absolute(), np.random.default_rng(options.seed)
    whole = Run(folder, "whole")
    whole.finish(0, rng)
    done: list[dict[str, Any]] = []
    runs: list[dict[str, bool]] = []
    while len(done) < options.kills:
        run = Run(folder, f"killed-{len(runs):02d}")
        run.finish(min(KILLS_A_RUN, options.kills - len(done)), rng)
        run.trains()
        done += run.kills
        runs.append(same(run, whole))
        print(run.url.name, [kill["victim"] for kill in run.kills], runs[-1], flush=True)
    figures: dict[str, Any] = {"kills": len(done), "runs": len(runs)}
    figures |= {f"same_{name}": sum(run[name] for run in runs) for name in runs[0]}
    for victim in [*VICTIMS, "command"]:
        kills = [k for k in done if k["victim"] == victim and {"new_step_s", "goes_on_s"} <= {*k}]
        if kills:
            figures[victim] = {
                "kills": len(kills),
                "recovery_s": spread([k["new_step_s"] - k["at_s"] for k in kills]),
                "restart_s": spread([k["goes_on_s"] - k["at_s"] for k in kills]),
                "repeat_s": spread([k["new_step_s"] - k["goes_on_s"] for k in kills]),
            }
    text = json.dumps(figures, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
