"""What stands beside saved weights so that a network can be rebuilt, run and measured without this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables import models
from trainables.core.errors import DataError, SpecError
from trainables.core.versions import versions
from trainables.data import DATASETS
from trainables.export import onnx, program, saved
from trainables.export.examples import BATCH, Examples, clean_verdicts, confirmed_table, examples, table
from trainables.export.readme import readme
from trainables.export.saved import CARD, CONFIRMED, EXAMPLES, ONNX, PROGRAM, README, WEIGHTS
from trainables.store.state import State, named_tensors


@dataclass
class Portable:
    """Files beside the weights, entries of the card about them, and notes about what is left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, entry: str, what: str, reason: str) -> None:
        """Record in the card and the notes that something is not there, and why."""
        self.card[entry] = {"missing": reason}
        self.notes.append(f"left out {what}: {reason}")


def portable(
    directory: Path,
    state: State,
    card: Mapping[str, Any],
    *,
    data: Mapping[str, Any],
    verdicts: str,
    confirmed: tuple[int, str, str] | None = None,
    shrink: bool = False,
    to_onnx: bool = False,
    run_plugins: bool = False,
) -> Portable:
    """Return what is written beside a network's weights: its program, its examples, ONNX, and a README.

    `data` is the data set's spec, with the folder of its files.
    `verdicts` are the packed robust verdicts of its record, `confirmed` the number of test images with the packed clean
    and robust verdicts. A program or examples that cannot be had are left out with a note; ONNX that is asked for is
    refused. The model of a plug-in is built only with `run_plugins`, `shrink` or `to_onnx`.

    Raises:
        SpecError: ONNX was asked for and cannot be had, or the network cannot be built.
    """
    made = Portable()
    net = _network(directory, state, card, made, shrink, run_plugins or shrink or to_onnx)
    exported = None if net is None else _program(net, card, made)
    if to_onnx and exported is None:
        raise SpecError(f"this network cannot be exported to ONNX: {made.card['program']['missing']}; leave --onnx out")
    found = _read(data, card, made, required=to_onnx)
    if to_onnx:
        assert net is not None
        assert exported is not None
        assert found is not None
        made.files[ONNX], checked = onnx.converted(net, exported, found.pixels)
        made.card["onnx"] = checked.plain()
    if found is not None:
        _measured(net, found, verdicts, card, made)
    if confirmed is not None:
        made.files[CONFIRMED] = confirmed_table(*confirmed)
    shrunk = {"shrunk": True} if shrink else {}
    text = readme({**card, **made.card, **shrunk, "versions": versions()}, made.files.keys() | {WEIGHTS, CARD})
    made.files[README] = text.encode()
    return made


def _network(
    directory: Path, state: State, card: Mapping[str, Any], made: Portable, shrink: bool, run_plugins: bool
) -> nn.Module | None:
    plugins, kind = card.get("plugins", ()), card["model"].get("kind")
    if kind not in models.MODELS and plugins and not run_plugins:
        made.leave_out(
            "program",
            PROGRAM,
            f"the model {kind} is of the plug-ins {', '.join(plugins)}, whose code runs only with --program",
        )
        return None
    return saved.network(directory, state, dict(card), shrink=shrink)


def _program(net: nn.Module, card: Mapping[str, Any], made: Portable) -> torch.export.ExportedProgram | None:
    channels, height, width = card["shape"]
    try:
        exported = program.exported(net, (channels, height, width))
        made.files[PROGRAM] = program.written(net, exported, named_tensors(net))
    except SpecError as error:
        made.leave_out("program", PROGRAM, str(error))
        return None
    made.card["program"] = {"input": program.INPUT, "output": program.OUTPUT, "torch": torch.__version__}
    return exported


def _read(data: Mapping[str, Any], card: Mapping[str, Any], made: Portable, *, required: bool) -> Examples | None:
    try:
        if data["kind"] not in DATASETS:
            raise DataError(f"the data set {data['kind']} is of a plug-in")
        return examples(DATASETS.parse(dict(data)), card["protocol"]["examples"], card["data"]["sha256"])
    except (DataError, SpecError) as error:
        if required:
            raise SpecError(
                f"--onnx compares the networks on validation images, which cannot be read: {error}"
            ) from None
        made.leave_out("examples", EXAMPLES, str(error))
        return None


def _measured(net: nn.Module | None, found: Examples, verdicts: str, card: Mapping[str, Any], made: Portable) -> None:
    """Add the table of the examples, with the clean verdicts that the record of a point lacks."""
    if net is None:
        made.leave_out("examples", EXAMPLES, "the clean verdicts need the network")
        return
    clean = clean_verdicts(net.to(memory_format=torch.channels_last), found)
    made.files[EXAMPLES] = table(found, clean, verdicts)
    counted, recorded = int(clean.sum()), card["clean_accuracy"]["correct"]
    made.card["examples"] = {**found.described(), "batch": BATCH, "clean_correct": counted, "clean_device": "cpu"}
    if counted != recorded:
        made.notes.append(
            f"the network classifies {counted} of {len(clean)} clean images correctly here, and {recorded} where it "
            f"was measured ({card['device']}); {EXAMPLES} has the verdicts found here"
        )
