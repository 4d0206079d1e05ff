"""The flags of a measured point: what each says, how bad it is, and whether it questions the robust accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["warn", "invalid"]


@dataclass(frozen=True)
class Flag:
    """What a flag says of a point, and the point's status with it.

    A flag that `questions` the robust accuracy says that the attack may have measured too much: nothing is learned from
    such a number.
    """

    severity: Severity
    meaning: str
    questions: bool = False


FLAGS: dict[str, Flag] = {
    "non_finite_logits": Flag("invalid", "NaN or infinite logits", questions=True),
    "masks_broken": Flag("invalid", "a pruned weight is not 0"),
    "buffers_changed": Flag("invalid", "the measurement changed a parameter or buffer", questions=True),
    "training_mode": Flag(
        "invalid", "a layer is in training mode although the network is in eval mode", questions=True
    ),
    "depends_on_batch": Flag("invalid", "an image's logits depend on the images beside it", questions=True),
    "depends_on_gradients": Flag(
        "invalid", "the logits change when gradients are computed, as they are in the attack", questions=True
    ),
    "undeclared_noise": Flag(
        "invalid",
        "passes differ, but the protocol measures without noise, so its attack does not average over passes",
        questions=True,
    ),
    "no_gradient": Flag(
        "invalid", "the attack saw no gradient on many of the examples that it did not break", questions=True
    ),
    "fails_at_large_radius": Flag(
        "invalid",
        "the attack leaves examples correct at a radius at which all images can be made equal",
        questions=True,
    ),
    "black_box_stronger": Flag(
        "invalid",
        "a gradient-free attack breaks many of the examples that survived the protocol's attack",
        questions=True,
    ),
    "stronger_attack": Flag(
        "warn",
        "a longer attack on another loss breaks many of the examples that survived the protocol's attack",
        questions=True,
    ),
    "misleading_gradient": Flag("warn", "the gradient does not predict how the logits change", questions=True),
    "at_chance": Flag("warn", "clean accuracy within two standard errors of always predicting the most frequent class"),
    "budget_missed": Flag(
        "warn",
        "a training that should have reached the sparsity by itself did not: the final cut removed over 5 % of the "
        "weights in use, by number or by sum of squares",
    ),
    "dead_layer": Flag("warn", "all weights of a layer are 0"),
    "zero_gradient": Flag("warn", "zero input gradient for more than 1 % of the examples", questions=True),
    "softmax_output": Flag("warn", "the network returns probabilities, not logits", questions=True),
    "nondeterministic": Flag("warn", "two forward passes differ"),
    "noise_on_pruned": Flag(
        "warn", "measured with noise on pruned weights too, so no forward pass has the stated sparsity"
    ),
    "random_noise_stronger": Flag(
        "warn",
        "random noise breaks more than 2 % of the examples, counting those that survived the attack",
        questions=True,
    ),
    "weaker_than_fgsm": Flag(
        "warn", "FGSM breaks over one percentage point more examples than the protocol's attack", questions=True
    ),
    "weights_outside": Flag(
        "warn", "over 10 % of the weights are outside prunable layers, where sparsity does not count them"
    ),
}
"""Every flag that a measurement may have, worst first."""


def questioned(flags: Iterable[str]) -> bool:
    """Return whether one of the flags questions the robust accuracy; unknown ones do not."""
    return any(flag in FLAGS and FLAGS[flag].questions for flag in flags)


def remark(status: str, flags: Iterable[str]) -> str:
    """Return what stands beside a point wherever it is shown: `warn: zero_gradient`, and nothing where all is well."""
    named = ", ".join(flags)
    return "" if status == "ok" else f"{status}: {named}" if named else status
