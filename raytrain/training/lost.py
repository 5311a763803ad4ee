"""What of Ray was lost, in one line and with the way out; its own words go on for many."""

import socket
import time
from collections.abc import Mapping

import ray
import ray.train
from ray.exceptions import ActorDiedError, RayActorError, RayError

from raytrain.errors import UserError
from raytrain.training.worker import LOWER_MEMORY

HEAD_PATIENCE_S = 30.0  # without an answer of the head; Ray itself ends the driver after 60
GO_ON = "the same command with the run's name goes on from its last checkpoint"

LOW_MEMORY = ("low on memory", "OUT_OF_MEMORY")  # in Ray's words, where its monitor ended a worker
LONGEST = 300  # characters of a cause


class Head:
    """The node that the cluster hangs on, and when it answered last."""

    def __init__(self) -> None:
        self.address = ray.get_runtime_context().gcs_address
        self.answered_s = time.monotonic()

    def check(self) -> None:
        """Ask every few seconds. Raises UserError where it has not answered for a while."""
        if time.monotonic() - self.answered_s < HEAD_PATIENCE_S / 10:
            return
        host, _, port = self.address.rpartition(":")
        try:
            at = (host.strip("[]"), int(port))
            with socket.create_connection(at, timeout=HEAD_PATIENCE_S / 10):
                self.answered_s = time.monotonic()
        except OSError as error:
            if time.monotonic() - self.answered_s > HEAD_PATIENCE_S:
                raise UserError(
                    f"Ray's head, {self.address}, has not answered for {HEAD_PATIENCE_S:g} s "
                    f"({error}). Once it runs again, and its nodes have come back, {GO_ON}"
                ) from None


def explained(error: BaseException) -> BaseException:
    """The user's error behind what Ray raised, or what it raised."""
    if isinstance(error, ray.train.WorkerGroupError):
        return UserError(
            "workers were lost more often than scaling.max_failures allows. "
            f"{_why_lost(error.worker_failures)}. {GO_ON.capitalize()}"
        )
    if isinstance(error, ray.train.ControllerError):
        return UserError(
            f"the workers could not begin together: {_why_none_began(error)}. `python -m "
            f"raytrain.doctor` looks at what they need; {GO_ON}"
        )
    if isinstance(error, RayActorError):
        return UserError(f"Ray Train's controller was lost; {GO_ON}")
    return error


def _why_lost(failures: Mapping[int, BaseException]) -> str:
    """The cause and, where it is known, the way out. `failures` are Ray Train's, by rank."""
    causes = {rank: _cause(error) for rank, error in failures.items()}
    for rank, cause in causes.items():
        if any(words in str(cause) for words in LOW_MEMORY):
            told = [line for line in str(cause).splitlines() if "emory on the node" in line]
            reason = (told or [_line(cause)])[0].strip()[:LONGEST]
            return (
                f"Ray ended worker {rank}, since memory ran out on its node ({reason}). "
                f"{LOWER_MEMORY}"
            )
    own = [rank for rank, cause in causes.items() if isinstance(cause, RayError)]
    rank = min(own or causes)  # the others failed for want of it
    line, _, guesses = _line(causes[rank]).partition(" Some common causes")
    advice = f". Where the kernel ended it for want of memory: {LOWER_MEMORY}" if guesses else ""
    return f"worker {rank}: {line.rstrip('.')}{advice}"


def _why_none_began(error: BaseException) -> str:
    """Why Ray Train's controller failed, before the workers trained."""
    return _line(getattr(error, "controller_failure", error))


def _cause(error: BaseException) -> BaseException:
    """What Ray Train's health check met."""
    return getattr(error, "health_check_failure", error)


def _line(error: BaseException) -> str:
    """The line that says most: of a traceback its last; of a dead actor that behind its ids."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, ActorDiedError):
        said = [x for x in lines if not x.startswith("\t") and x != ActorDiedError.BASE_ERROR_MSG]
        return (said or lines)[0].strip()[:LONGEST]
    is_traceback = any(line.startswith('  File "') for line in lines)
    return lines[-1 if is_traceback else 0].strip()[:LONGEST]
