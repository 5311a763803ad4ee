"""`python -m raytrain.doctor`: is this cluster, or this machine, fit for a run? Before it starts.

python -m raytrain.doctor                                     what raytrain.pretrain would use here
python -m raytrain.doctor --config my.yaml scaling.workers=4 storage=s3://bucket/runs
python -m raytrain.doctor --deep data.root=s3://bucket/earth  reads all shards, too
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from raytrain import storage
from raytrain.checks.finding import Finding, State, findings, reason
from raytrain.errors import UserError
from raytrain.pretrain import read_config
from raytrain.training.config import RunConfig

if TYPE_CHECKING:
    from raytrain.checks.machine import Facts
    from raytrain.checks.nodes import Node
    from raytrain.data.cards import Card

MARKS: dict[State, str] = {"green": "ok", "yellow": "see", "red": "BAD"}
STORAGE_S = 150.0  # three rounds of all nodes


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when nothing is red, 1 when something is, 2 for bad
    settings."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.doctor", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--config", metavar="FILE", help="a recipe by name, or a YAML file")
    parser.add_argument("--deep", action="store_true", help="compare all shards with their sha256")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="settings of the run")
    options = parser.parse_intermixed_args(arguments)
    os.environ.setdefault("RAYTRAIN_RETRY_S", "5")  # a check is no run: it says what it sees
    console = Console(soft_wrap=True, highlight=False)
    began, states = time.monotonic(), list[State]()
    try:
        config = read_config(options.config, options.overrides)
        for finding in examine(config, options.deep, console.print):
            states.append(finding.state)
            _show(console, finding)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    counts = ", ".join(f"{states.count(state)} {state}" for state in MARKS)
    is_fit = "red" not in states
    verdict = "fit to train" if is_fit else "not fit to train"
    console.print(f"{verdict}: {counts}, in {time.monotonic() - began:.0f} s")
    return 0 if is_fit else 1


def _show(console: Console, finding: Finding) -> None:
    mark = f"[{finding.state}]{MARKS[finding.state]:<3}[/{finding.state}]"
    console.print(f"{mark} {finding.name:<12} {escape(finding.words)}")
    if finding.remedy:
        console.print(f"{'':16} → {escape(finding.remedy)}")


def examine(config: RunConfig, deep: bool, say: Callable[[str], None]) -> Iterator[Finding]:
    """All findings, as they come. Raises UserError where the settings are of no run."""
    # Heavy imports wait until the settings are known to be good.
    from raytrain.training import launch
    from raytrain.training.job import chosen_cards

    cards = chosen_cards(config)
    yield from findings("mlflow", lambda: _tracking(config))
    try:
        is_cluster = launch.connect(config.scaling)
        yield from _on_ray(config, cards, is_cluster, deep, say)
    except Exception as error:  # there is no cluster, or no longer
        yield Finding("ray", "red", reason(error))


def _on_ray(
    config: RunConfig,
    cards: "dict[str, Card]",
    is_cluster: bool,
    deep: bool,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    from raytrain.checks import collective, doors, shards, store
    from raytrain.checks.machine import survey
    from raytrain.checks.nodes import alive, everywhere
    from raytrain.training import launch

    try:
        workers, use_gpu = launch.choose_workers(config.scaling, say if is_cluster else None)
        yield Finding("workers", "green", f"room for {workers} on {'GPUs' if use_gpu else 'CPUs'}")
    except UserError as error:
        workers, use_gpu = 0, False
        yield Finding("workers", "red", str(error))
    nodes, root = alive(), config.data.root
    surveyed = everywhere(nodes, survey, storage.absolute(config.storage))
    for node, problem in surveyed.failed.items():
        yield Finding("nodes", "red", f"{node}: {problem}", "see Ray's logs of it, or remove it")
    facts = surveyed.given
    yield from _judged(nodes, facts)
    yield from findings("data", lambda: shards.data_findings(cards, root, nodes))
    if deep:
        content = findings("content", lambda: shards.content_findings(cards, root, nodes), None)
        yield from content
    stored = findings("storage", lambda: store.storage_findings(config.storage, nodes), STORAGE_S)
    yield from stored
    if workers and all(finding.state != "red" for finding in stored):
        yield from findings(
            "all-reduce",
            lambda: collective.reduce_findings(config, workers, use_gpu),
            2 * collective.PATIENCE_S,
        )
    if is_cluster:
        yield from findings("doors", lambda: doors.door_findings(nodes, facts, config.tracking.uri))
    else:
        yield Finding("doors", "green", "not needed: Ray runs on this machine alone")


def _judged(nodes: "list[Node]", facts: "dict[str, Facts]") -> Iterator[Finding]:
    from raytrain.checks import verdicts
    from raytrain.checks.nodes import clock_offset_s

    def counted(resource: str) -> dict[str, float]:
        return {node.name: node.resources.get(resource, 0.0) for node in nodes}

    others = [node for node in nodes if not node.is_here]
    checks: dict[str, Callable[[], list[Finding]]] = {
        "versions": lambda: verdicts.versions(facts),
        "gpus": lambda: verdicts.gpus(facts, counted("GPU")),
        "memory": lambda: verdicts.memory(facts),
        "object store": lambda: verdicts.object_store(facts, counted("object_store_memory")),
        "disk": lambda: verdicts.disk(facts),
        "open files": lambda: verdicts.open_files(facts),
        "clock": lambda: verdicts.clocks({node.name: clock_offset_s(node) for node in others}),
    }
    for name, check in checks.items() if facts else ():
        yield from findings(name, check)


def _tracking(config: RunConfig) -> Iterator[Finding]:
    from raytrain.training.tracking import reach

    off = "off; metrics are in metrics.jsonl of the run"
    yield Finding("mlflow", "green", reach(config.tracking) if config.tracking.uri else off)


if __name__ == "__main__":
    sys.exit(main())
