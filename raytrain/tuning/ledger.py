"""Where trials are written down as they change: their records, MLflow, and the screen."""

from collections.abc import Iterable

from raytrain.settings import flat
from raytrain.training.tracking import Tracker
from raytrain.tuning.display import Board
from raytrain.tuning.record import ENDED, Trial

STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class Ledger:
    """Call it with a trial that has changed. In MLflow each is a child of the sweep's run."""

    def __init__(self, sweep: Tracker, board: Board) -> None:
        self.sweep, self.board = sweep, board
        self.children: dict[str, Tracker] = {}

    def __call__(self, trial: Trial) -> None:
        trial.save()
        self.board.show(trial)
        child = self.children.get(trial.url)
        if child is None:
            settings = flat(trial.values) | {"seeds": [*trial.seeds]}
            child = Tracker(
                self.sweep.config,
                trial.records_url,
                trial.name,
                settings,
                self.sweep.say,
                self.sweep,
            )
            self.children[trial.url] = child
        if trial.curve:
            costs = {"seconds": trial.seconds, "parameters": trial.parameters}
            known = {name: cost for name, cost in costs.items() if cost is not None}
            child.log({"step": trial.steps, "score": trial.score, **known})
        if trial.state in ENDED:
            child.tag("state", trial.state)
            if trial.error:
                child.tag("error", trial.error)
            child.finish(STATUS[trial.state])
            self._sum_up()

    def go_on(self, trials: Iterable[Trial]) -> None:
        """Trials of an earlier start: those that ended then have ended in MLflow too."""
        for trial in trials:
            if trial.state in ENDED:
                self(trial)

    def close(self) -> None:
        """Trials that did not end are said to be stopped, until the sweep goes on."""
        for url, child in self.children.items():
            if any(t.url == url and t.state == "running" for t in self.board.trials.values()):
                child.finish("KILLED")

    def _sum_up(self) -> None:
        trials = self.board.trials.values()
        scores = [t.score for t in trials if t.state == "finished" and t.score is not None]
        counts = {f"trials/{s}": sum(t.state == s for t in trials) for s in ENDED}
        best = {"best_score": max(scores)} if scores else {}
        self.sweep.log({"step": sum(counts.values()), **counts, **best})
