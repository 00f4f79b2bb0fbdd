"""How a command ends: with an exit code, and with one sentence where something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cyclopts import CycloptsError

from streams.errors import ChorusError, ConfigError


def guarded(command: Callable[[], Any], fail: Callable[[ChorusError], int]) -> int:
    """Run a command; its exit code, or that of `fail` for an error that a person can mend."""
    try:
        code = command()
    except ChorusError as error:
        return fail(error)
    except CycloptsError:
        return 2  # cyclopts has said what is wrong with the command line
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `chorus status | head`
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def fail(error: ChorusError) -> int:
    """Say what is wrong; 2 for what was asked wrongly, 1 for the rest."""
    print(f"chorus: {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1
