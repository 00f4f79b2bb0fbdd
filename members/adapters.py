"""Other shapes of a classifier, made into members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from members.protocol import Votes
from streams.batch import Batch


class PerRequest:
    """A plain function over one request: its features as a dict → bool, or None to abstain.

    Missing features are None. It is called once per request, a hundred times slower than one over
    columns: for trying something out, or for code that cannot be had otherwise. A subclass is loadable::

        class Storm(PerRequest):
            def __init__(self, above: float) -> None:
                super().__init__(lambda request: request["wind"] > above, needs={"wind": float})
    """

    def __init__(
        self,
        function: Callable[[dict[str, Any]], bool | None],
        needs: Mapping[str, type] | Iterable[str] = (),
    ) -> None:
        self._function = function
        self.needs = dict(needs) if isinstance(needs, Mapping) else tuple(needs)

    def vote(self, batch: Batch) -> Votes:
        """Votes of all n requests. A request that lacks a needed feature abstains, and is not asked about.

        Raises what the function raises, and TypeError where it answers with anything else.
        """
        names = batch.features
        columns = []
        for name in names:
            values, missing = batch[name].tolist(), batch.missing(name)
            for i in np.flatnonzero(missing).tolist():
                values[i] = None
            columns.append(values)
        true, abstain = np.zeros(len(batch), np.bool_), np.zeros(len(batch), np.bool_)
        for name in self.needs:
            abstain |= batch.missing(name)
        for i in np.flatnonzero(~abstain).tolist():
            answer = self._function({name: values[i] for name, values in zip(names, columns, strict=True)})
            if answer is None:
                abstain[i] = True
            elif isinstance(answer, bool | np.bool_):
                true[i] = answer
            else:
                raise TypeError(f"it answered {answer!r}: answer True, False or None")
        return Votes(true, abstain)
