"""What README and docs/ tell a reader to type and to open is there."""

import argparse
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DRY_RUN = ("pretrain", "evaluate")  # these check all settings by themselves
COMMAND = re.compile(r"python -m raytrain\.(\w+)([^`#&\n]*)")


def commands() -> Iterator[tuple[str, str]]:
    """Name and arguments of each `python -m raytrain.…`, in blocks and in sentences."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for name, arguments in COMMAND.findall(re.sub(r"(`[^`\n]+)\n", r"\1 ", text)):
            if "…" not in arguments and arguments.strip():  # … stands for anything
                yield name, arguments.strip()


@pytest.mark.parametrize(("name", "arguments"), sorted(set(commands())))
def test_commands_of_the_pages_are_understood(
    name: str,
    arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = importlib.import_module(f"raytrain.{name}").main
    if name in DRY_RUN:
        (tmp_path / "my.yaml").write_text("")
        monkeypatch.chdir(tmp_path)
        assert main([*shlex.split(arguments), "--dry-run"]) == 0, capsys.readouterr().out
        return
    for method in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, method)
        monkeypatch.setattr(argparse.ArgumentParser, method, parsing_alone(parse))
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(arguments))
    assert ended.value.code == 0, capsys.readouterr().err


def parsing_alone(parse: Callable[..., argparse.Namespace]) -> Callable[..., NoReturn]:
    def and_no_more(parser: argparse.ArgumentParser, arguments: list[str]) -> NoReturn:
        parse(parser, arguments)
        raise SystemExit(0)

    return and_no_more


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    files = [page.parent / link for link in links if link and "://" not in link]
    named = re.findall(r"\b((?:benchmarks|tests|datasets|raytrain|tune_spaces)/[\w/-]+\.\w+)", text)
    files += [ROOT / name for name in named]
    assert not [str(file) for file in files if not file.exists()]
