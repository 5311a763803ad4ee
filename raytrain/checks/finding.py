"""What a check finds, and how a check is kept from raising or hanging."""

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from raytrain.errors import UserError

State = Literal["green", "yellow", "red"]


@dataclass(frozen=True)
class Finding:
    """One line: the subject, whether it is fit, what was seen and on which node, and the way out
    where it is not green."""

    name: str
    state: State
    words: str
    remedy: str = ""


def findings(
    name: str, check: Callable[[], Iterable[Finding]], seconds: float | None = 60.0
) -> list[Finding]:
    """What a check finds. What it raises is a red finding of its own, and so is its not ending
    within so many seconds (None: it bounds itself); it is then left alone, in a thread that ends
    with the process."""
    found: list[Finding] = []
    ended: queue.Queue[Finding | None] = queue.Queue()

    def run() -> None:
        try:
            found.extend(check())
            ended.put(None)
        except Exception as error:
            ended.put(Finding(name, "red", reason(error)))

    threading.Thread(target=run, daemon=True, name=f"check-{name}").start()
    try:
        problem = ended.get(timeout=seconds)
    except queue.Empty:
        problem = Finding(name, "red", f"no end after {seconds:g} s")
    return [*found, problem] if problem else found


def reason(error: BaseException) -> str:
    """What a UserError says, which names the way out; of others the kind and the first line."""
    if isinstance(error, UserError):
        return str(error)
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
