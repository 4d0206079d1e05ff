"""What a study may measure too well: networks that its protocol's attack cannot see, said before the first trial."""

from __future__ import annotations

from collections.abc import Iterable

from trainables.recipes.trial import TrialSpec


def cautions(trials: Iterable[TrialSpec]) -> tuple[str, ...]:
    """Return a line for each network that hides gradients from the protocol's attack, and one for measured noise."""
    found: dict[str, None] = {}
    for trial in trials:
        attack = trial.protocol.attack
        if trial.model.hides_gradients and not attack.needs_no_gradients:
            found[
                f"{trial.model.kind}: activations that are cut to the largest hide gradients, so {attack.label} "
                "measures too much; add square to it: "
                "protocol.attack={kind: worst, attacks: [..., {kind: square, queries: 500}]}"
            ] = None
        if trial.protocol.noise:
            found[
                "protocol.noise: networks with noise are measured with it on, by gradients averaged over "
                f"{trial.protocol.eot} passes; their points say nondeterministic, and compare with no network without"
            ] = None
    return tuple(found)
