"""What a run must remember to go on as if it had never stopped, whatever number of processes goes on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

from graticule.errors import CacheError
from graticule.files import atomic_write
from graticule.learners.base import Learner
from graticule.tensors import flatten_optimiser, load_tensors, save_tensors, unflatten_optimiser
from graticule.training.distributed import divided, whole


@dataclass
class State:
    """The learner, what is trained of it, the optimiser's state of each, and the moving average of weights, if any."""

    learner: Learner
    trainable: dict[str, Parameter]
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All of it by name, as whole tensors; where they lie in shards, all processes must ask for them."""
        for name, value in self.learner.state_dict().items():
            yield f"learner/{name}", whole(value)
        moments = self.optimiser.state
        numbered = {i: moments[p] for i, p in enumerate(self.trainable.values()) if p in moments}
        for name, value in flatten_optimiser(numbered).items():
            yield name, whole(value)
        for name, value in self.average.items():
            yield f"average/{name}", whole(value)


def save(path: Path, state: State, step: int, *, writes: bool) -> None:
    """Write the state after `step` steps; with several processes all of them call it and one `writes`."""
    tensors = {}
    for name, tensor in state.tensors():
        if writes:
            tensors[name] = tensor.detach().cpu()
    if writes:
        save_tensors(path, tensors, step=str(step))


def restore(path: Path, state: State) -> int:
    """Read the state again; the number of steps that were done. CacheError for a damaged or a stranger's file."""
    tensors, metadata = load_tensors(path)
    own = state.learner.state_dict()
    found = {n.removeprefix("learner/"): t for n, t in tensors.items() if n.startswith("learner/")}
    try:
        for name in own.keys() & found.keys():
            there, here = tuple(found[name].shape), tuple(own[name].shape)
            if there != here:
                raise RuntimeError(f"{name} is of shape {there} there, {here} here")
        state.learner.load_state_dict({n: divided(t, own[n]) if n in own else t for n, t in found.items()})
    except RuntimeError as error:
        raise CacheError(f"{path} belongs to another run ({error}). Delete it or choose another folder.") from error
    _restore_optimiser(state, unflatten_optimiser(tensors))
    for name, mean in state.average.items():
        mean.copy_(divided(tensors[f"average/{name}"], mean))
    return int(metadata["step"])


def _restore_optimiser(state: State, found: Mapping[int, Mapping[str, Tensor]]) -> None:
    """By the numbers of `trainable`, which are not those of the optimiser's groups."""
    saved = state.optimiser.state_dict()
    order = [p for group in state.optimiser.param_groups for p in group["params"]]
    place = {id(p): i for i, p in enumerate(order)}
    entries = {}
    for number, parameter in enumerate(state.trainable.values()):
        if number in found:
            entries[place[id(parameter)]] = {
                key: divided(value, parameter) if value.ndim else value for key, value in found[number].items()
            }
    state.optimiser.load_state_dict({**saved, "state": entries})


def cut_log(path: Path, step: int) -> None:
    """Drop the rows of a log after `step`, and one that was not written to its end."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    atomic_write(path, lambda temporary: temporary.write_text("".join(line + "\n" for line in kept)))
