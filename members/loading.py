"""From a loader such as ``flights.members:Storm`` to an object that can vote."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from members.errors import LoadError, VoteError
from members.protocol import Votes
from streams.batch import Batch
from streams.suite import MemberSpec


def extend_path(suite_file: str | Path) -> None:
    """Make modules beside the suite file, and in the current directory, importable.

    They come last: a file that happens to be called members.py or queue.py must not be taken for a part of
    Chorus or of Python, neither here nor in the processes of isolated members, which inherit this path.
    """
    chorus = Path(__file__).resolve().parents[1]
    for folder in (chorus, Path(suite_file).resolve().parent, Path.cwd()):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def load_member(spec: MemberSpec) -> Any:
    """Import, construct and load a member. Raises LoadError with one sentence that says what to mend."""
    module_name, _, attribute = spec.loader.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise LoadError(
                f"{spec.id}: no module {module_name}: check `loader`, or put it beside the suite file"
            ) from None
        raise LoadError(f"{spec.id}: {module_name} needs {error.name}, which is not installed") from None
    except BaseException as error:  # a module's top level may do anything, sys.exit() included
        raise LoadError(f"{spec.id}: {module_name} cannot be imported: {_say(error)}") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            where = getattr(sys.modules[module_name], "__file__", None)
            raise LoadError(
                f"{spec.id}: {module_name} ({where}) has no {attribute}: check `loader`, and that no module "
                "of Python or of Chorus has the same name"
            )
        target = getattr(target, part)
    try:
        member = target(**spec.params)
        if hasattr(member, "load"):
            member.load()
    except BaseException as error:
        raise LoadError(
            f"{spec.id}: {spec.loader} with params {spec.params} failed: {_say(error)}"
        ) from error
    if spec.threshold is not None:
        if not callable(getattr(member, "score", None)):
            raise LoadError(
                f"{spec.id}: {spec.loader} has no method score(batch), which `threshold` needs: give it one, "
                "or leave `threshold` out"
            )
        return Thresholded(member, spec.threshold)
    if not callable(getattr(member, "vote", None)):
        raise LoadError(f"{spec.id}: {spec.loader} has no method vote(batch)")
    return member


class Thresholded:
    """Votes True where the member's score(batch) → float array[n] reaches a threshold; NaN abstains."""

    def __init__(self, member: Any, threshold: float) -> None:
        self._member, self._threshold = member, threshold
        self.needs = getattr(member, "needs", None)

    def vote(self, batch: Batch) -> Votes:
        """Votes of all n requests. Raises VoteError where the scores are no n numbers."""
        scores = self.score(batch)
        return Votes(scores >= self._threshold, np.isnan(scores))

    def score(self, batch: Batch) -> Any:
        """The member's scores as float64[n]. Raises VoteError."""
        try:
            scores = np.asarray(self._member.score(batch), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise VoteError(f"its scores are no numbers: {error}") from error
        if scores.shape != (len(batch),):
            raise VoteError(
                f"score has shape {scores.shape}, not ({len(batch)},): one number for each request"
            )
        return scores

    def close(self) -> None:
        """Let the member close what it opened."""
        if callable(getattr(self._member, "close", None)):
            self._member.close()


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
