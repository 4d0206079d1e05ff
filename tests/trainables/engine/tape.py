"""A stand-in for CUDA graphs on a CPU: operators are recorded with their tensors, and run again on the same memory.

Like a graph it knows nothing of Python: numbers stay what they were, recording changes no tensor, and what waits for
the device's values is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

_WAITS = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.is_nonzero, aten.masked_select, aten._unique2}
_READS = {Tensor.tolist, Tensor.item, Tensor.numpy, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.cpu}

_UNMARKED = {aten.native_batch_norm: (3, 4)}
"""Arguments that an operator writes to though its schema does not say so."""


class Tape:
    """A recorder (`trainables.engine.cuda_graphs.Recorder`) of work on a CPU."""

    def __init__(self) -> None:
        self.recordings = 0

    @contextmanager
    def warming(self, wrong: list[str]) -> Iterator[None]:
        with _Operators(wrong), _Reads(wrong):
            yield

    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        self.recordings += 1
        wrong: list[str] = []
        with _Recording(wrong) as recording:
            found = work()
        recording.undo()
        if wrong:
            raise RuntimeError(wrong[0])
        return found, recording.replay


class _Reads(TorchFunctionMode):
    def __init__(self, wrong: list[str]) -> None:
        super().__init__()
        self._wrong = wrong

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS:
            self._wrong.append(f"Python waits for {func.__name__}")
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, wrong: list[str]) -> None:
        super().__init__()
        self._wrong = wrong

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indices = [t for t in tree_leaves(args[1:]) if isinstance(t, Tensor)]
        masked = func.overloadpacket in (aten.index, aten.index_put_) and any(t.dtype == torch.bool for t in indices)
        if masked or func.overloadpacket in _WAITS:
            self._wrong.append(f"Python waits for {func}")
        return func(*args, **(kwargs or {}))


class _Recording(_Operators):
    def __init__(self, wrong: list[str]) -> None:
        super().__init__(wrong)
        self._calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._made: set[int] = set()
        self._before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        for tensor in _written(func, args, named):
            if tensor.untyped_storage().data_ptr() not in self._made:
                self._before.append((tensor.detach(), tensor.detach().clone()))
        found = super().__torch_dispatch__(func, types, args, named)
        fresh = all(result.alias_info is None for result in func._schema.returns)
        outputs = [t.detach() for t in tree_leaves(found) if isinstance(t, Tensor)] if fresh else []
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, named)) if isinstance(t, Tensor)}
        self._made |= {t.untyped_storage().data_ptr() for t in outputs} - given
        self._calls.append((func, args, named, outputs))
        return found

    def undo(self) -> None:
        for tensor, value in reversed(self._before):
            tensor.copy_(value)

    def replay(self) -> None:
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            for func, args, named, outputs in self._calls:
                found = [t for t in tree_leaves(func(*args, **named)) if isinstance(t, Tensor)]
                for output, value in zip(outputs, found if outputs else (), strict=True):
                    output.copy_(value)


def _written(func: Any, args: Any, named: Any) -> list[Tensor]:
    marked = []
    for at, argument in enumerate(func._schema.arguments):
        writes = argument.alias_info is not None and argument.alias_info.is_write
        if writes or at in _UNMARKED.get(func.overloadpacket, ()):
            marked.append(args[at] if at < len(args) else named.get(argument.name))
    return [t for t in tree_leaves(marked) if isinstance(t, Tensor)]
