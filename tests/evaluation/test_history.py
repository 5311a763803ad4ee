import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytrain.evaluation.history import BEFORE, history, retrieval, spikes


def logged(folder: Path, *records: dict[str, Any]) -> str:
    """A run with these records in its metrics.jsonl."""
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    (folder / "metrics.jsonl").write_text(text)
    return str(folder)


def decay(noise: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """300 values of a falling loss with noise that does not reach the rule."""
    steps = np.arange(300)
    return 2 + 5 * np.exp(-steps / 60) + np.random.default_rng(seed).uniform(-noise, noise, 300)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_a_smooth_noisy_curve_has_no_spikes(noise: float) -> None:
    assert spikes(decay(noise).tolist()) == 0
    assert spikes([3.0] * 50) == 0
    assert spikes([]) == spikes([1.0, 50.0, 1.0]) == 0


def test_exactly_the_planted_spikes_are_found() -> None:
    values = decay(0.05)
    values[[40, 41, 150, 299]] += 3.0
    assert spikes(values.tolist()) == 4
    values[200] -= 1.0  # a dip is none
    assert spikes(values.tolist()) == 4


def test_the_rule_at_its_edge() -> None:
    flat = [100.0] * BEFORE
    assert spikes([*flat, 105.9]) == 0  # 6 times 1 % of the median
    assert spikes([*flat, 106.1]) == 1
    wavy = [99.0, 101.0] * (BEFORE // 2)  # its deviation from the median is 1
    assert spikes([*wavy, 100 + 6 * 1.4826 - 0.1]) == 0
    assert spikes([*wavy, 100 + 6 * 1.4826 + 0.1]) == 1
    assert spikes([*flat[1:], 1000.0]) == 0  # too few before it


def test_a_new_level_is_a_spike_until_it_is_the_median() -> None:
    assert spikes([1.0] * 20 + [2.0] * 20) == BEFORE // 2


def test_curves_of_a_run(tmp_path: Path) -> None:
    losses = [*[2.0] * 15, 9.0, 2.0]
    records: list[dict[str, Any]] = [
        {"step": 10 * i, "loss": loss, "grad_norm": 1.0, "lr": 0.1} for i, loss in enumerate(losses)
    ]
    records.insert(5, {"step": 50, "val_loss/words": 3.0})
    assert history(logged(tmp_path, *records)) == {
        "step": [10 * i for i in range(17)],
        "loss": losses,
        "grad_norm": [1.0] * 17,
        "spikes": {"loss": 1, "grad_norm": 0},
    }


def test_the_last_retrieval_of_each_modality(tmp_path: Path) -> None:
    def record(step: int, modality: str, found: float) -> dict[str, Any]:
        return {
            "step": step,
            f"val_loss/{modality}": 3.0,
            f"val_regression/{modality}": 0.4,
            f"val_places/{modality}": 512.0,
            f"val_observation_to_location@1/{modality}": found,
            f"val_location_to_observation@10/{modality}": 2 * found,
        }

    rows = [record(1, "words", 0.1), record(1, "tiles", 0.2), record(2, "words", 0.3)]
    assert retrieval(logged(tmp_path, {"step": 0, "loss": 1.0}, *rows)) == {
        "words": {
            "places": 512.0,
            "observation_to_location@1": 0.3,
            "location_to_observation@10": 0.6,
        },
        "tiles": {
            "places": 512.0,
            "observation_to_location@1": 0.2,
            "location_to_observation@10": 0.4,
        },
    }


def test_without_metrics_there_is_nothing(tmp_path: Path) -> None:
    assert history(str(tmp_path)) == retrieval(str(tmp_path / "none")) == {}
    url = logged(tmp_path, {"step": 1, "val_loss/words": 3.0})
    assert history(url) == retrieval(url) == {}
