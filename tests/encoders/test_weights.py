from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch
from torch import nn

from raytrain.encoders.weights import WeightsError, load_exactly, read_weights


def test_both_formats_and_urls_hold_the_same_tensors(tmp_path: Path) -> None:
    state = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pth")
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    with fsspec.open("memory://weights/a.safetensors", "wb") as file:
        file.write(safetensors.torch.save(state))
    places = (tmp_path / "a.pth", tmp_path / "a.safetensors", "memory://weights/a.safetensors")
    for place in places:
        stored = read_weights(str(place))
        assert stored.keys() == state.keys()
        assert all(torch.equal(stored[name], state[name]) for name in state)


def test_pickled_objects_are_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(WeightsError, match="was not run"):
        read_weights(str(tmp_path / "module.pth"))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=rf"there is no .*{name}"):
        read_weights(str(tmp_path / name))
    (tmp_path / name).write_bytes(b"\x00" * 7)
    with pytest.raises(WeightsError, match=name):
        read_weights(str(tmp_path / name))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight is \[2, 4\].* \[2, 3\]"),
        ({"weight": torch.zeros(2, 3)}, r"no tensor bias \[2\], .* the 1 stored is weight"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "scale": torch.zeros(1)},
            r"scale \[1\] is not in this architecture",
        ),
    ],
)
def test_the_first_misfit_is_named(stored: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_exactly(nn.Linear(3, 2), stored, "file")
