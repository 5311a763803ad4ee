"""The few probes that end a training run, and what to do when they are bad."""

from collections.abc import Sequence

import numpy as np

from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.roster import Row, label_rows
from raytrain.evaluation.scores import Budget, Scores
from raytrain.evaluation.scoring import score
from raytrain.evaluation.tasks import Task

TRAINED, UNTRAINED = "trained encoder", "untrained encoder"
TOLERANCE = 0.005  # of the mean over tasks: seeds of training differ by as much


def development_probes(
    encoder: Encoder,
    untrained: Encoder,
    tasks: Sequence[Task],
    *,
    budgets: Sequence[Budget] = (None, 300),
    seeds: int = 3,
    max_labels: int = 6000,
) -> Scores:
    """Score an encoder beside the same encoder untrained and the label baselines, in seconds.

    Rows: label-kNN, inverse distance, untrained encoder, trained encoder; blocks of 10 degrees. At
    most `max_labels` labels a task (of more, evenly spaced rows) and few seeds: it says where a run
    stands. A table to be reported needs `score` with five seeds or more. See `.settings`.
    """
    fewer = [
        task.subset(np.linspace(0, len(task.y) - 1, min(max_labels, len(task.y))).astype(np.int64))
        for task in tasks
    ]
    rows = (
        *label_rows(),
        Row(name=UNTRAINED, kind="encoder baseline", encode=untrained),
        Row(name=TRAINED, kind="encoder", encode=encoder),
    )
    return score(rows, fewer, budgets=budgets, seeds=seeds)[0]


def verdict(scores: Scores) -> str | None:
    """A warning that says what to do, when training left the encoder worse than it began.

    Looks at the mean over tasks at every budget; differences within TOLERANCE pass.
    """
    worse = []
    for budget in scores.budgets:
        trained, untrained = scores.mean(TRAINED, budget), scores.mean(UNTRAINED, budget)
        if trained < untrained - TOLERANCE:
            labels = "all labels" if budget is None else f"{budget} labels"
            worse.append(f"{trained:.3f} against {untrained:.3f} with {labels}")
    if not worse:
        return None
    return (
        "The trained encoder's probes are below the untrained encoder's: "
        + "; ".join(worse)
        + ". Mostly this means that it learned to tell places apart and not what they are like, "
        "which a falling loss hides. What helps: more distinct places a modality (hundreds of "
        "thousands, drawn anew, not repeated), fewer steps or a lower learning rate, a softer "
        "logit scale (objective.logit_scale), and regression beside contrast."
    )
