"""A network in the ONNX format, checked by ONNX Runtime on the images that it is measured on."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.export.program import INPUT, OUTPUT, first_line, quiet

TOLERANCE = 1e-4
"""How far a logit may be from the network's, as a share of the largest logit of the batch."""
BATCHES = (1, 2, 7, 64)
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Checked:
    """How a file was compared with the network. Differences are shares of the largest logit of their batch."""

    opset: int
    input: str
    output: str
    batches: tuple[int, ...]
    images: int
    tolerance: float
    largest_difference: float
    versions: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)


def converted(net: nn.Module, program: torch.export.ExportedProgram, images: Tensor) -> tuple[bytes, Checked]:
    """Return a network as the content of an ONNX file, with a dynamic batch size, and how it was checked.

    Shapes: images (N, C, H, W) in [0, 1], of which the first are classified in batches of several sizes.
    Raises:
        SpecError: a package is missing, the network cannot be converted, or the file has other logits.
    """
    _require()
    try:
        with quiet(), _silent():
            made: Any = torch.onnx.export(
                program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, external_data=False, verbose=False
            )
            model = made.model_proto
            content: bytes = model.SerializeToString()
    except Exception as error:
        raise SpecError(f"this network cannot be exported to ONNX: {first_line(error)}") from None
    return content, _checked(content, net, images, model.opset_import[0].version)


def _require() -> None:
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise SpecError(
                f"--onnx needs the package {name}, which is not installed; install the extra: "
                "pip install 'robustsearch[onnx]'"
            ) from None


def _checked(content: bytes, net: nn.Module, images: Tensor, opset: int) -> Checked:
    import onnxruntime

    try:
        with _silent():
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SpecError(f"ONNX Runtime cannot load the exported network: {first_line(error)}") from None
    sizes = tuple(size for size in BATCHES if size <= len(images)) or (len(images),)
    largest = max(_difference(session, net, images[:size]) for size in sizes)
    if not largest <= TOLERANCE:
        raise SpecError(
            f"the network in ONNX has other logits: they differ by {largest:.2g} of the largest logit, and "
            f"{TOLERANCE:.2g} is allowed; nothing was written. Leave --onnx out"
        )
    return Checked(
        opset=int(opset),
        input=INPUT,
        output=OUTPUT,
        batches=sizes,
        images=max(sizes),
        tolerance=TOLERANCE,
        largest_difference=largest,
        versions={name: metadata.version(name) for name in PACKAGES},
    )


def _difference(session: Any, net: nn.Module, images: Tensor) -> float:
    """Return the largest difference of a logit, as a share of the largest logit; infinity if a value is not finite."""
    try:
        (found,) = session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
    except Exception as error:
        raise SpecError(
            f"ONNX Runtime cannot run the exported network on {len(images)} images: {first_line(error)}"
        ) from None
    with torch.no_grad():
        wanted = net(images)
    difference = (torch.from_numpy(found) - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)
    return float(difference) if bool(difference.isfinite()) else float("inf")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the progress that the packages print and log off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
