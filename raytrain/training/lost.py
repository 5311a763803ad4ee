"""Why workers were lost, in one line: Ray's own words go on for many, about every worker."""

from collections.abc import Mapping

from ray.exceptions import ActorDiedError, RayError

from raytrain.training.worker import LOWER_MEMORY

LOW_MEMORY = ("low on memory", "OUT_OF_MEMORY")  # in Ray's words, where its monitor ended a worker
LONGEST = 300  # characters of a cause


def why_lost(failures: Mapping[int, BaseException]) -> str:
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
    return f"worker {rank}: {_line(causes[rank])}"


def why_none_began(error: BaseException) -> str:
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
