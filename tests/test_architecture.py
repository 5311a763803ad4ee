"""The rules that keep the house in order; CONTRIBUTING.md explains them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytrain.data.cards import card_names, datasets_dir

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "raytrain"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Floors from the top; a module imports from its own floor's package or from floors below.
FLOORS = (
    (
        "pretrain",
        "tune",
        "prepare",
        "featurize",
        "preview",
        "evaluate",
        "embed",
        "export",
        "atlas",
        "doctor",
    ),
    ("tuning", "checks", "inspection"),
    ("training",),
    ("bulk", "maps"),
    ("evaluation",),
    ("data", "objective"),
    ("encoders", "batch"),
    ("sealed",),
    ("geo", "settings", "wheels", "storage", "errors"),
)
STRANGERS = (
    {"data", "objective"},
    {"bulk", "maps"},
    {"tuning", "checks"},
    {"tuning", "inspection"},
)  # side by side, unknown to each other
ONLY_IN = {
    "ray": (
        "data/streams.py",
        "data/reader.py",
        "data/kept.py",
        "bulk/features.py",
        "data/spread.py",
        "bulk/write.py",
        "checks/collective.py",
        "checks/doors.py",
        "checks/machine.py",
        "checks/nodes.py",
        "checks/shards.py",
        "checks/store.py",
        "evaluation/remote.py",
        "training/interface.py",
        "training/worker.py",
        "training/launch.py",
        "training/lost.py",
        "tuning/proposals.py",
        "tuning/sweep.py",
        "tuning/trial.py",
    ),
    "mlflow": ("training/tracking.py",),
    "pydantic": ("settings.py",),
    "yaml": ("settings.py",),
}


def floor(part: str) -> int:
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, but for the sake of types."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    for module in imported(path):
        if not module.startswith("raytrain."):
            continue
        other = module.split(".")[1]
        if other == part or (
            not (PACKAGE / other).with_suffix(".py").exists() and not (PACKAGE / other).is_dir()
        ):
            continue
        assert floor(other) >= floor(part), f"{name_of(path)} imports {module} from above"
        both_strange = any({part, other} <= pair for pair in STRANGERS)
        assert not both_strange, f"{name_of(path)} imports its neighbour {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_its_place(path: Path) -> None:
    roots = {module.split(".")[0] for module in imported(path)}
    for library, places in ONLY_IN.items():
        assert library not in roots or name_of(path) in places, f"{library} in {name_of(path)}"


def test_no_modality_is_named_in_python_outside_the_sources() -> None:
    """A new modality is a card and no code."""
    for path in MODULES:
        if PACKAGE / "data" / "sources" in path.parents:
            continue
        strings = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        named = strings & {*card_names()}
        assert not named or name_of(path) == "training/config.py", f"{named} in {name_of(path)}"


def test_datasets_and_tune_spaces_hold_no_python() -> None:
    """They would shadow the packages of these names."""
    for folder in (ROOT / "datasets", ROOT / "tune_spaces"):
        assert not list(folder.rglob("*.py"))
    assert datasets_dir().is_dir()


def test_files_have_one_subject_and_a_size_to_match() -> None:
    for path in MODULES:
        assert path.stem not in ("utils", "common", "base", "helpers")
        lines = len(path.read_text().splitlines())
        assert lines <= 300, f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_read_on_one_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 75, f"{name_of(path)}: {node.name} has {lines} lines"
