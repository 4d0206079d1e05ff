"""What the caption of a paper's table says of how a study was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.results.paper.caption import caption
from search.study import reproduction
from search.study.spec import Reproduces
from tests.search.results.paper.made import MNIST, Made


@pytest.mark.slow
def test_the_caption_says_what_was_shortened_changed_and_left_out(tmp_path: Path) -> None:
    of = Reproduces(paper="cosentino2019", table="mnist", scale=0.05)
    whole = Made(tmp_path / "whole", MNIST).study()
    assert "SHORTENED" not in caption(whole)
    assert "INCOMPLETE" not in caption(whole)
    data = whole.spec.data.model_copy(update={"limit": 20000})
    told = caption(Made(tmp_path / "short", of, data=data).study(leave_out=2))
    assert "SHORTENED: all that counts epochs or steps is 0.05 times as long; the first training has 3 of 60" in told
    assert "Set otherwise: data.limit is 20000 instead of null." in told
    assert "INCOMPLETE: 2 of 6 trials are not complete" in told
    assert "2 seeds of 5" in told
    assert "1 seed of 5" in caption(Made(tmp_path / "first", of).study(leave_out=5)), "those that are measured"


def test_the_caption_names_what_is_set_otherwise_within_lists_too(tmp_path: Path) -> None:
    of = Reproduces(paper="rakin2019", table="resnet20")
    spec = reproduction.study(of)
    (noise,) = spec.protocol.metrics
    fewer = noise.model_copy(update={"examples": 32, "attacks": {"fgsm": noise.attacks["fgsm"]}})
    protocol = spec.protocol.model_copy(update={"metrics": (fewer,)})
    (line,) = [text for text in caption(Made(tmp_path, of, protocol=protocol).study()).splitlines() if "Set" in text]
    assert line == (
        "Set otherwise: protocol.metrics.noise.attacks.square is left out; "
        "protocol.metrics.noise.examples is 32 instead of 1000."
    )


def test_the_caption_says_that_a_paper_was_not_trained_in_fp32(tmp_path: Path) -> None:
    of = Reproduces(paper="cosentino2019", table="mnist")
    recipe = reproduction.study(of).recipe
    half = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "bf16"})})
    told = caption(Made(tmp_path, of, recipe=half).study())
    assert "Set otherwise: recipe.train.precision is bf16 instead of fp32." in told
