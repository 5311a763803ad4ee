"""The command itself: what the user sees of bad input. None of these needs Ray."""

from pathlib import Path

import pytest

from raytrain.pretrain import main


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """What the command says when it refuses its input."""
    status = main(arguments)
    said = capsys.readouterr().out
    assert status == 2
    assert said.startswith("error: ")
    assert "Traceback" not in said
    return said.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1e-3", "unknown setting `optim.lrr`; did you mean `lr`?"),
        ("trainig.steps=5", "unknown setting `trainig`; did you mean `training`?"),
        ("method.kind=sallt", "method.kind: expected Literal['melt', 'salt', 'pair'], got 'sallt'"),
        ("training.steps=many", "training.steps: expected int, got 'many'"),
        ("optim.lr=fast", "optim.lr: expected float, got 'fast'"),
        ("scaling.gpu=perhaps", "scaling.gpu: expected bool | None, got 'perhaps'"),
        ("location.network.kind=sirene", "unknown setting `location.network.kind=sirene`; did you"),
        ("steps", "'steps' is no override; write path=value, as in optim.lr=1e-3"),
        ("optim.lr.x=1", "optim.lr: expected float, got {'x': 1}"),
        ("data.modalities=satelite", "; did you mean `satellite`? or give the path of a YAML file"),
        ("data.modalities=mine/card.yaml", "there is no card mine/card.yaml"),
        ("data.modalities=[]", "data.modalities is empty; name at least one card"),
        ("method.modality=text", "method: text is not among data.modalities (satellite, "),
        ("training.places.sattelite=9", "training.places: sattelite is not among data.modalities"),
        ("objective.near.km=0", "objective.near: km is 0; give a distance in (0, 20,015] km"),
        ("data.balance_of.x.exponent=2", "data.balance_of.x: exponent is 2; give 0 (as they are)"),
        ("objective.logit_scale.init=200", "objective.logit_scale: logit_scale.init 200.0 must"),
    ],
)
def test_a_wrong_setting_is_named(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, [override])


def test_a_settings_file_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    assert refusal(capsys, ["--config", str(path)]) == f"there is no settings file {path}"
    path.write_text("optim: {lr: [")
    assert f"{path} is not readable YAML" in refusal(capsys, ["--config", str(path)])
    path.write_text("- optim\n")
    assert "expected `key: value` lines, found a list" in refusal(capsys, ["--config", str(path)])
    path.write_text("optim: {learning_rate: 1e-3}\n")
    assert "unknown setting `optim.learning_rate`" in refusal(capsys, ["--config", str(path)])
    assert "there is no recipe `mine`" in refusal(capsys, ["--config", "mine"])


def test_text_in_brackets_stays_in_messages(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no card [/red].yaml" in refusal(capsys, ['data.modalities="[/red].yaml"'])


def test_a_dry_run_shows_all_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "optim.lr=1e-3", "method.kind=salt"]) == 0
    shown = capsys.readouterr().out
    assert "lr: 0.001" in shown
    assert "kind: salt" in shown
