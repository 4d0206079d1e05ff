"""Measure a network by the protocol: which examples it classifies correctly, clean and attacked, and sanity checks.

Everything here is exact: eval mode, float32 without TF32, the same chunks of examples and the
same attack draws for every network that is measured on one kind of device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks.base import Keep, LogitsFn
from trainables.attacks.eot import Eot
from trainables.attacks.parts import Parts
from trainables.attacks.verdicts import correct
from trainables.core import heartbeat
from trainables.core.errors import SpecError
from trainables.core.rng import derive
from trainables.data.tensors import Split
from trainables.measure import sanity_checks
from trainables.measure.metrics import values
from trainables.measure.probe import EXAMPLES, Target, probe
from trainables.method.protocol import Protocol
from trainables.metrics.base import Trainings
from trainables.models import macs
from trainables.models.graph.mlp_gradient import layers_of
from trainables.models.graph.smaller import Smaller
from trainables.models.noise import Noise, Noisy
from trainables.models.share import weights_outside
from trainables.store.flags import questioned
from trainables.store.records import Status
from trainables.store.state import State, duplicate, named_tensors

Verdicts = NDArray[np.bool_]

CHUNK = {"cpu": 128, "cuda": 512}
"""Images per attacked chunk, by device type. Results depend on it: each chunk has its own generator."""

TOGETHER = 2**16
"""The most pixels of chunks that are attacked as one batch, where that is possible: what lies in a core's cache."""

OUTSIDE = 0.1
"""The share of the weights outside prunable layers from which a point is flagged."""


def chunk_size(device: torch.device) -> int:
    """Return how many images are attacked at once on a device."""
    return CHUNK.get(device.type, CHUNK["cpu"])


@dataclass(frozen=True, eq=False)
class Measurement:
    """The verdicts on the protocol's examples, in their order, and the size of the network.

    `robust_correct` implies `clean_correct`. `flags` are those of `trainables.measure.sanity_checks`, `status` is the
    worst of them. `nonzero` of `prunable` weights are not 0; `macs_effective` counts the multiply-accumulates with
    those alone; `weights_outside` are the weights that `prunable` leaves out (`trainables.models.share`).
    """

    robust_correct: Verdicts
    clean_correct: Verdicts
    nonzero: int
    prunable: int
    parameters: int
    macs_dense: int
    macs_effective: int
    flags: tuple[str, ...]
    status: Status
    weights_sha256: str
    weights_outside: int
    metrics: dict[str, float | None] = field(default_factory=dict)


def measure(
    model: nn.Module,
    state: State,
    protocol: Protocol,
    split: Split,
    *,
    device: torch.device | str,
    checked: bool = True,
    shrunk: bool = False,
    origin: Callable[[], State] | None = None,
    trainings: Callable[[], Trainings | None] = lambda: None,
) -> Measurement:
    """Measure the network of `model` with the tensors of `state`; the module itself is not changed.

    An example is robustly correct if it is classified correctly both clean and attacked; logits that are not finite
    are wrong. The noise of a noisy network is off, unless the protocol has it on: then the majority of
    `protocol.votes` passes is the predicted class. Without `checked` no sanity checks are made. With `shrunk` the
    network is attacked and checked without filters that are pruned whole, where that changes nothing but rounding;
    metrics see the full one. `origin` returns the initial network, `trainings` those that a metric of the protocol
    compares.

    Raises:
        SpecError: the protocol asks for more examples than the split has.
    """
    examples = len(split) if protocol.examples is None else protocol.examples
    if examples > len(split):
        raise SpecError(f"protocol.examples is {examples}, but the split has {len(split)} images")
    device = torch.device(device)
    net = frozen(model, state, device)
    noise = Noise.of(state.to(device)) if protocol.noise else None
    measured = net if noise is None else Noisy(net, noise, state.to(device).masks).eval()
    if shrunk and noise is None:
        measured = _smaller(model, state, split, device) or net
    networks = nn.ModuleList([net] if noise is not None else [net, measured])
    before = {name: t.clone() for name, t in named_tensors(networks).items()} if checked else {}
    with exact(device):
        chunks = _chunks(measured, protocol, split, examples, device)
        clean = torch.cat([c.clean for c in chunks]).cpu()
        robust = torch.cat([c.robust for c in chunks]).cpu()
        metrics = values(net, state, protocol, split, clean, robust, origin=origin, trainings=trainings)
        found = _flags(measured, protocol, split, chunks, device) if checked else ()
        if checked:
            found = (*sanity_checks.of_state(state), *sanity_checks.of_networks(networks, before), *found)
        if checked and noise is not None:
            found = (*found, *sanity_checks.of_noise(noise, state))
        counts = macs.count(net, _shape(split))
        outside = sum(weights_outside(net).values())
        if checked and outside > OUTSIDE * (outside + state.size()):
            found = (*found, "weights_outside")
    return Measurement(
        robust_correct=robust.numpy(),
        clean_correct=clean.numpy(),
        nonzero=state.nonzero(),
        prunable=state.size(),
        parameters=state.parameters(),
        macs_dense=macs.dense(counts),
        macs_effective=macs.effective(counts, state.params),
        flags=sanity_checks.ordered(found),
        status=sanity_checks.status(found),
        weights_sha256=state.weights_sha256(),
        weights_outside=outside,
        metrics=metrics,
    )


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute in full float32 and by deterministic convolution algorithms inside the block."""
    backends: Any = torch.backends
    cudnn = backends.cudnn
    # Both kinds of cuDNN operation: torch refuses to report a setting that only one of them has.
    formats = [backends.cuda.matmul, cudnn.conv, cudnn.rnn, backends.mkldnn.matmul, backends.mkldnn.conv]
    before = [kind.fp32_precision for kind in formats]
    algorithms = (cudnn.deterministic, cudnn.benchmark)
    try:
        for kind in formats:
            kind.fp32_precision = "ieee"
        cudnn.deterministic, cudnn.benchmark = True, False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = algorithms
        for kind, precision in zip(formats, before, strict=True):
            kind.fp32_precision = precision


def pack_verdicts(verdicts: Verdicts) -> str:
    """Write verdicts as hex of their bits, big-endian, in example order."""
    return np.packbits(verdicts).tobytes().hex()


def unpack_verdicts(text: str, examples: int) -> Verdicts:
    """Read what `pack_verdicts` wrote of this number of examples."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=examples).astype(np.bool_)


def frozen(model: nn.Module, state: State, device: torch.device) -> nn.Module:
    """Return a copy of the module with the state's tensors, in eval mode, that computes no weight gradients."""
    net = state.into(duplicate(model)).to(device)
    # Always the same memory format, which decides the rounding; torch refuses it for 3D convolutions.
    if not any(t.dim() == 5 for t in named_tensors(net).values()):
        net = net.to(memory_format=torch.channels_last)
    return net.eval().requires_grad_(False)


def _smaller(model: nn.Module, state: State, split: Split, device: torch.device) -> nn.Module | None:
    """Return what `frozen` does, of the network without filters that are pruned whole; None where they must stay."""
    try:
        smaller = Smaller(model, state, _shape(split))
    except SpecError:
        return None
    return frozen(smaller.model, smaller.cut_state(state), device)


def _shape(split: Split) -> tuple[int, int, int]:
    channels, height, width = split.x.shape[1:]
    return channels, height, width


def _parts(examples: int, device: torch.device) -> Iterable[slice]:
    size = chunk_size(device)
    return (slice(first, min(first + size, examples)) for first in range(0, examples, size))


@dataclass(frozen=True)
class _Chunk:
    clean: Tensor
    robust: Tensor
    finite: bool


def _chunks(net: nn.Module, protocol: Protocol, split: Split, examples: int, device: torch.device) -> list[_Chunk]:
    parts = list(_parts(examples, device))
    several = _together(net, protocol, split, device)
    return [_attacked(net, protocol, split, parts[at : at + several], device) for at in range(0, len(parts), several)]


def _together(net: nn.Module, protocol: Protocol, split: Split, device: torch.device) -> int:
    """Return how many chunks to attack as one batch: several of small images through a perceptron on a CPU.

    There a step costs hardly more for three chunks than for one, and a row of a product hardly depends on the others:
    with MKL, from four rows on, not by a bit.
    """
    alike = device.type == "cpu" and layers_of(net) is not None
    if not (alike and protocol.attack.sparing and protocol.attack.takes_parts):
        return 1
    return max(1, TOGETHER // (CHUNK["cpu"] * split.x[0].numel()))


def _flags(
    measured: nn.Module, protocol: Protocol, split: Split, chunks: list[_Chunk], device: torch.device
) -> tuple[str, ...]:
    clean, robust = (torch.cat(part).cpu() for part in ([c.clean for c in chunks], [c.robust for c in chunks]))
    return (
        *sanity_checks.of_verdicts(clean, split.y[: len(clean)].cpu(), finite=all(c.finite for c in chunks)),
        *(sampled := tuple(_flags_of_sample(measured, protocol, split, robust, device))),
        *_flags_of_probe(measured, protocol, split, robust, device, sampled),
    )


def _attacked(net: nn.Module, protocol: Protocol, split: Split, parts: list[slice], device: torch.device) -> _Chunk:
    """Classify chunks clean and attacked; an attack that is `sparing` gets the images that are correct when clean.

    Others get all images: their draws may depend on the batch, and should not on clean verdicts. Each chunk has its own
    draws.
    """
    heartbeat.beat()
    first, whole = parts[0].start, slice(parts[0].start, parts[-1].stop)
    x = split.pixels(whole).to(device).contiguous(memory_format=torch.channels_last)
    y = split.y[whole].to(device)
    noisy = isinstance(net, Noisy)
    if isinstance(net, Noisy):
        net.generator = torch.Generator(x.device).manual_seed(derive("noise", protocol.seed, first))
    votes = protocol.votes if noisy else 1
    clean, finite = classified(net, x, y, votes)
    if not clean.any():
        return _Chunk(clean, clean, finite)
    draws = [torch.Generator(device).manual_seed(derive("protocol", protocol.seed, part.start)) for part in parts]
    generator = draws[0] if len(parts) == 1 else Parts([part.stop - part.start for part in parts], draws)
    # An input that a random network happened to misclassify once is no stronger than the attack's last one.
    keep: Keep = "last" if noisy else "worst"
    attacked = _attackable(net, protocol)
    if protocol.attack.sparing and not noisy:
        eps = float(protocol.eps)
        found = attacks.hunt(protocol.attack, attacked, x, y, eps=eps, generator=generator, standing=clean)
    else:
        found = attacks.run(protocol.attack, attacked, x, y, eps=float(protocol.eps), generator=generator, keep=keep)
    robust, still = classified(net, found, y, votes)
    return _Chunk(clean, clean & robust, finite and still)


def _attackable(net: nn.Module, protocol: Protocol) -> LogitsFn:
    """Return the logits that attacks by gradients see: of a network with noise their mean over passes."""
    return Eot(net, protocol.eot) if isinstance(net, Noisy) else one_pass(net)


def one_pass(net: nn.Module) -> LogitsFn:
    """Return the logits of one pass, of a perceptron without modules: the same bits."""
    return layers_of(net) or net


def classified(net: nn.Module, x: Tensor, y: Tensor, votes: int) -> tuple[Tensor, bool]:
    """Return whether most of `votes` passes are correct, by example (N,), and whether all logits are finite."""
    right, finite = torch.zeros(len(x), dtype=torch.long, device=x.device), True
    for _ in range(votes):
        with torch.no_grad():
            logits = net(x)
        right += correct(logits, y)
        finite = finite and bool(logits.isfinite().all())
    return 2 * right > votes, finite


def _flags_of_sample(
    net: nn.Module, protocol: Protocol, split: Split, robust: Tensor, device: torch.device
) -> Iterator[str]:
    part = slice(0, min(sanity_checks.SAMPLE, len(robust)))
    x = split.pixels(part).to(device).contiguous(memory_format=torch.channels_last)
    y = split.y[part].to(device)
    votes = protocol.votes if isinstance(net, Noisy) else 1
    attacked = one_pass(net)
    return sanity_checks.of_sample(
        net, attacked, protocol, x, y, robust[part].to(device), lambda inputs: classified(net, inputs, y, votes)[0]
    )


def _flags_of_probe(
    net: nn.Module, protocol: Protocol, split: Split, robust: Tensor, device: torch.device, sampled: tuple[str, ...]
) -> Iterator[str]:
    """Probe the first examples that the attack did not break, unless the network is random and does not say so."""
    if "undeclared_noise" in sampled:
        return
    generator = torch.Generator(device).manual_seed(derive("probe", protocol.seed))
    noisy = isinstance(net, Noisy)
    votes = protocol.votes if noisy else 1
    target = Target(
        logits_fn=_attackable(net, protocol),
        passes=one_pass(net),
        stands=lambda x, y: classified(net, x, y, votes)[0],
        norm=protocol.attack.norm,
        eps=float(protocol.eps),
        generator=generator,
        steady=not noisy,
    )
    standing = robust.nonzero()[:EXAMPLES, 0]
    x = split.pixels(standing.to(split.x.device)).to(device).contiguous(memory_format=torch.channels_last)
    y = split.y[standing.to(split.y.device)].to(device)
    yield from probe(target, x, y, float(robust.float().mean()), suspected=questioned(sampled))
