"""A network as a `torch.export` program: its architecture in a file that plain PyTorch loads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.store.state import temporary

INPUT, OUTPUT = "images", "logits"
_BATCHES = (1, 2, 5)


def exported(net: nn.Module, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """Return the program of a network in eval mode on the CPU, for batches of any size.

    Shapes: images (N, *shape) in [0, 1] to logits (N, classes).
    Raises:
        SpecError: torch.export cannot follow the network, or not for every batch size.
    """
    images = torch.rand((3, *shape), generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(net.eval(), (images,), dynamic_shapes=({0: batch},))
    except Exception as error:  # Any error of the network's own code, and torch's many.
        raise SpecError(f"torch.export cannot follow this network: {first_line(error)}") from None


def written(net: nn.Module, program: torch.export.ExportedProgram, weights: Mapping[str, Tensor]) -> bytes:
    """Return the program as the content of a `.pt2` file, from which `weights` give the network's logits bit for bit.

    Raises:
        SpecError: it cannot be written, or what is read again has other logits.
    """
    file = io.BytesIO()
    try:
        with quiet():
            torch.export.save(program, file)
            file.seek(0)
            again = torch.export.load(file).module()
    except Exception as error:
        raise SpecError(f"torch.export cannot write this network: {first_line(error)}") from None
    # Buffers that are not persistent are constants of the program.
    unknown = again.load_state_dict(dict(weights), strict=False).unexpected_keys
    if unknown := sorted(set(unknown) - temporary(net)):
        raise SpecError(f"the exported program has no tensor {unknown[0]}")
    _check(net, again, program)
    return file.getvalue()


def _check(net: nn.Module, again: nn.Module, program: torch.export.ExportedProgram) -> None:
    (example,), _ = program.example_inputs or ((torch.empty(0),), {})
    generator = torch.Generator().manual_seed(1)
    for batch in _BATCHES:
        images = torch.rand((batch, *example.shape[1:]), generator=generator)
        with torch.no_grad():
            if not torch.equal(net(images), again(images)):
                raise SpecError("the exported program has other logits than the network")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of torch about itself from the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_line(error: BaseException) -> str:
    """Return an error in one line of at most 300 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
