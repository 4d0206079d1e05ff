"""Training steps replayed from a CUDA graph, for networks so small that starting kernels takes longer than their work.

The first full batches are trained on as usual; then all that a step launches, from the indices of its images to the
optimiser, is recorded, and replayed for the batches that follow. A recording keeps every number that Python had in it:
those are `Given`, and a step that is given others is not replayed. The learning rate is a tensor, the indices are
copied in, and so are random numbers, which are drawn outside from the generators and in the order of a step without a
graph. So both compute the same, and no key depends on which it was.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.attacks.base import Attack
from trainables.losses.base import Loss
from trainables.models import macs

ENABLED = "ROBUSTSEARCH_CUDA_GRAPHS"
"""The environment variable that switches graphs on where it is 1. They are off as long as no GPU has measured them."""

LAUNCH_BOUND = 10e9
"""The most multiply-accumulates of a batch's forward pass for which a step is launch-bound: estimated, not measured."""

WARMUPS = 3
"""Steps in a row, given the same, before one is recorded: torch asks for at least three on a stream of their own."""

Found = tuple[Tensor, Tensor]
"""A step's loss and the number of images that it classified correctly, both (), detached."""


@dataclass(frozen=True)
class Given:
    """What a step is told besides its images and the learning rate. Units: eps in pixel units of [0, 1]."""

    loss: Loss
    attack: Attack
    eps: float
    climbs: Mapping[str, float]
    keep_gradients: bool = False


Work = Callable[[Tensor, Given], Found]
"""A whole step on the images with these indices (N,)."""


class Recorder(Protocol):
    """What records a device's work and does it again."""

    def warming(self, wrong: list[str]) -> AbstractContextManager[None]:
        """Run the block as it would be recorded, and add to `wrong` what could not be."""
        ...

    def record(self, work: Callable[[], Found]) -> tuple[Found, Callable[[], None]]:
        """Record `work` without doing it; return its results, which every replay writes anew, and the replay.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


_WAITS = "called a synchronizing CUDA operation"
_PROTOTYPE = "Synchronization debug mode"
"""What torch says where it is asked to find what waits for a GPU: that, and once that it may not find everything."""


class CudaGraphs:
    """Records with CUDA graphs, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def warming(self, wrong: list[str]) -> Iterator[None]:
        outside = torch.cuda.current_stream(self._stream.device)
        before = torch.cuda.get_sync_debug_mode()
        self._stream.wait_stream(outside)
        with warnings.catch_warnings(record=True) as said, torch.cuda.stream(self._stream):
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(before)
        outside.wait_stream(self._stream)
        for warning in said:
            message = str(warning.message)
            if _WAITS in message:
                wrong.append(f"Python waits for the GPU ({os.path.basename(warning.filename)}:{warning.lineno})")
            elif not message.startswith(_PROTOTYPE):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def record(self, work: Callable[[], Found]) -> tuple[Found, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # Other threads of a worker may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            found = work()
        return found, graph.replay


def recorder_for(model: nn.Module, shape: tuple[int, int, int], batch: int, device: torch.device) -> Recorder | None:
    """Return what records the steps of a network on images of `shape` (C, H, W), None where nothing is to."""
    if device.type != "cuda" or os.environ.get(ENABLED) != "1":
        return None
    return CudaGraphs(device) if batch * macs.dense(macs.count(model, shape)) <= LAUNCH_BOUND else None


class Replayed:
    """The steps of one training: full batches are replayed, unless `why_not` says why they cannot be."""

    def __init__(self, recorder: Recorder, batch: int, generators: Sequence[torch.Generator]) -> None:
        """Replay steps on `batch` images that draw from `generators` alone, all on the device of the step."""
        self._recorder, self._generators = recorder, generators
        self._index = torch.zeros(batch, dtype=torch.long, device=generators[0].device)
        self._given: Given | None = None
        self.why_not: str | None = None
        self.steps = 0
        """How many steps were replayed."""
        self.forget()

    def forget(self) -> None:
        """Drop the recording: something else in it has changed."""
        self._warm = 0
        self._draws: list[_Draw] = []
        self._recorded: tuple[Found, Callable[[], None]] | None = None

    def __call__(self, work: Work, index: Tensor, given: Given) -> Found:
        """Do a step; what it returns holds until the next one."""
        if self.why_not is not None or len(index) != len(self._index) or given.keep_gradients:
            return work(index, given)
        if given != self._given:
            self.forget()
            self._given = given
        if self._recorded is None and self._warm < WARMUPS:
            return self._warmed(work, index, given)
        if self._recorded is None and not self._record(work, given):
            return work(index, given)
        assert self._recorded is not None
        found, replay = self._recorded
        self._index.copy_(index)
        for draw in self._draws:
            draw.again()
        replay()
        self.steps += 1
        return found

    def _warmed(self, work: Work, index: Tensor, given: Given) -> Found:
        wrong: list[str] = []
        drawing = _Drawing(self._generators, wrong)
        own = _own_state(index.device)
        with self._recorder.warming(wrong), drawing:
            found = work(index, given)
        if not torch.equal(own, _own_state(index.device)):
            wrong.append("it draws from torch's own generator")
        self._warm += 1
        self._draws = drawing.draws
        # Libraries may wait for the device when they are first used.
        if self._warm == WARMUPS and wrong:
            self.why_not = wrong[0]
        return found

    def _record(self, work: Work, given: Given) -> bool:
        def recorded() -> Found:
            with _Drawn(self._draws):
                return work(self._index, given)

        try:
            self._recorded = self._recorder.record(recorded)
        except RuntimeError as error:
            self.why_not = str(error).partition("\n")[0]
        return self._recorded is not None


class _Draw:
    """A call that draws random numbers, in place or into a new tensor, and a tensor of the last ones."""

    def __init__(
        self, draw: Callable[..., Tensor], args: Sequence[Any], named: Mapping[str, Any], drawn: Tensor
    ) -> None:
        self._draw, self._named = draw, named
        self._in_place = bool(args) and args[0] is drawn
        self._args = args[1:] if self._in_place else args
        self._values = drawn.clone()

    @property
    def computed(self) -> bool:
        """Whether it depends on other tensors."""
        return any(isinstance(value, Tensor) for value in (*self._args, *self._named.values()))

    def again(self) -> None:
        """Draw the next numbers."""
        if self._in_place:
            self._draw(self._values, *self._args, **self._named)
        else:
            self._values.copy_(self._draw(*self._args, **self._named))

    def instead(self, args: Sequence[Any]) -> Tensor:
        """Return what a call of `args` would have drawn."""
        return args[0].copy_(self._values) if self._in_place else self._values.clone()


def _draws(args: Sequence[Any], named: Mapping[str, Any]) -> torch.Generator | None:
    return next((value for value in (*named.values(), *args) if isinstance(value, torch.Generator)), None)


class _Drawing(TorchFunctionMode):
    """Notes what is drawn inside, and adds to `wrong` what cannot be drawn outside."""

    def __init__(self, generators: Sequence[torch.Generator], wrong: list[str]) -> None:
        super().__init__()
        self._generators, self._wrong = generators, wrong
        self.draws: list[_Draw] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        drawn = func(*args, **named)
        if (generator := _draws(args, named)) is not None:
            self.draws.append(_Draw(func, args, named, drawn))
            if self.draws[-1].computed:
                self._wrong.append("it draws from a distribution that it computes")
            if not any(generator is known for known in self._generators):
                self._wrong.append("it draws from a generator of its own")
        return drawn


class _Drawn(TorchFunctionMode):
    """Copies what was drawn outside instead of drawing."""

    def __init__(self, draws: Sequence[_Draw]) -> None:
        super().__init__()
        self._next = iter(draws)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if _draws(args, named) is None:
            return func(*args, **named)
        if (draw := next(self._next, None)) is None:
            raise RuntimeError("it does not draw the same in every step")
        return draw.instead(args)


def _own_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
