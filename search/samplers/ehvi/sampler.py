"""The sampler `ehvi`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from search.samplers.base import Sampler, SamplerContext, Suggestion

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


class Ehvi(Sampler):
    """Expected hypervolume improvement by the root of the epochs to train, given what is known before a trial trains.

    Sources: Emmerich, Deutz & Klinkenberg 2011, doi:10.1109/CEC.2011.5949880 (the criterion); Snoek, Larochelle &
    Adams 2012, arXiv:1206.2944 (per cost); Lee, Perrone, Archambeau & Seeger 2020, arXiv:2003.10870 (less than
    the whole cost; our exponent is measured).
    """

    kind: Literal["ehvi"] = "ehvi"
    most: ClassVar[int | None] = 500
    n_startup_trials: int = Field(
        default=2, ge=1, description="Trials that follow the sequence of `qmc` before the sampler learns from results."
    )

    def suggest(self, context: SamplerContext) -> Suggestion:
        from search.samplers.ehvi.suggest import suggest
        from search.samplers.points import ObservedPoints

        points = ObservedPoints.of(context.observations, context.problem)
        # Several threads gain nothing on such matrices, and sum in another order.
        with _pools().limit(limits=1):
            return Suggestion(suggest(context, points, self.n_startup_trials))

    def load(self) -> None:
        from search.samplers import sobol
        from search.samplers.ehvi import suggest  # noqa: F401

        sobol.load()


@cache
def _pools() -> ThreadpoolController:
    """Return what limits the threads of numpy's and scipy's libraries, which are looked for once: it takes 4 ms."""
    import scipy.linalg  # noqa: F401  A pool that is loaded later would not be limited.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
