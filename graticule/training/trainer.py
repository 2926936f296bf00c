"""The one training loop. It knows Learner, Phase and Batch, and no method by name."""

from __future__ import annotations

import json
import logging
import math
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graticule.data.balanced import DensitySampler, StratifiedSampler, sampler
from graticule.data.loader import EpochSampler, TokenSampler
from graticule.errors import CacheError, GraticuleError, SettingError
from graticule.files import atomic_write
from graticule.geo.placed import Batch, Placed
from graticule.geo.tokens import Tokens
from graticule.learners.base import Learner
from graticule.progress import Progress
from graticule.tensors import flatten_optimiser, load_tensors, save_tensors, unflatten_optimiser

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """What is drawn and what stands still for `steps` steps: modality names, patterns of frozen parameters.

    `paired` draws the same row numbers from every modality, for rows that share their place.
    """

    modalities: tuple[str, ...]
    steps: int = 1
    frozen: tuple[str, ...] = ()
    paired: bool = False


@dataclass(frozen=True)
class Schedule:
    """How the loop runs, independent of what is learned."""

    steps: int
    batch_size: int = 1024  # rows a modality and step
    batch_rows: Mapping[str, int] = field(default_factory=dict)  # of single modalities, instead of `batch_size`
    sampler: str = "rows"  # which rows: `data.balanced.sampler`
    cell_km: float = 100.0  # side of the cells in which that counts them
    debias: float = 0.5  # power of density that it takes away
    batch_tokens: int = 8192  # tokens a step of a modality whose rows are ragged, instead of `batch_size` rows
    row_tokens: int = 256  # as many tokens of a ragged row count at most
    learning_rate: float = 1e-3
    last_learning_rate: float = 0.0  # at the last step
    faster: tuple[tuple[str, float], ...] = ()  # (pattern of parameter names, factor on the learning rate)
    weight_decay: float = 0.01
    last_weight_decay: float | None = None  # at the last step, along the same cosine; None: it stays
    beta2: float = 0.999  # of AdamW; beta 1 is .9
    warmup: float = 0.05  # share of the steps in which the learning rate rises
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.0  # decay of the moving average of weights that is returned; 0 for none
    precision: str = "auto"  # "float32", "bfloat16", or "auto": bfloat16 on CUDA only
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 200


def fit(learner: Learner, sources: Batch, phases: Sequence[Phase], schedule: Schedule, folder: Path) -> None:
    """Train in place, going round the phases; log to `folder`/log.jsonl, checkpoint to `folder`/resume.safetensors.

    Exact resume: a run killed at any moment and called again ends with the weights of the
    uninterrupted one (bit-identical on one thread), since draws and random numbers depend on the
    step alone. Raises CacheError for a damaged checkpoint and GraticuleError when the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = next(learner.parameters()).device
    loop = _Loop(learner, sources, phases, schedule, folder)
    start = loop.resume()
    if start < schedule.steps:
        with Progress(f"train {folder.name}", schedule.steps, start=start, unit="steps") as progress:
            for step in range(start, schedule.steps):
                losses = loop.step(step, device)
                if (step + 1) % schedule.log_every == 0 or step + 1 == schedule.steps:
                    loop.log(step, losses)
                if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
                    loop.save(step + 1)
                progress.advance(note=f"loss {loop.last_loss:.3f}" if math.isfinite(loop.last_loss) else "")
    loop.use_average()


def which_phase(phases: Sequence[Phase], step: int) -> tuple[int, list[int]]:
    """The number of the phase at `step`, and how often each phase has been stepped before it."""
    rounds, within = divmod(step, sum(phase.steps for phase in phases))
    done = [rounds * phase.steps for phase in phases]
    for i, phase in enumerate(phases):
        if within < phase.steps:
            done[i] += within
            return i, done
        done[i] += phase.steps
        within -= phase.steps
    raise AssertionError("unreachable: within is smaller than the sum of the steps")


class _Loop:
    def __init__(
        self, learner: Learner, sources: Batch, phases: Sequence[Phase], schedule: Schedule, folder: Path
    ) -> None:
        self.learner, self.sources, self.phases, self.schedule, self.folder = learner, sources, phases, schedule, folder
        self.trainable = {name: p for name, p in learner.named_parameters() if p.requires_grad}
        if not self.trainable:
            raise SettingError("Nothing can be trained: every parameter of the learner is frozen.")
        self.optimiser = torch.optim.AdamW(
            [{"params": [p], "lr": schedule.learning_rate * self._factor(n)} for n, p in self.trainable.items()],
            weight_decay=schedule.weight_decay,
            betas=(0.9, schedule.beta2),
        )
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.samplers = {name: _sampler(name, rows, schedule) for name, rows in sources.items()}
        self.average = {n: p.detach().clone() for n, p in self.trainable.items()} if schedule.ema else {}
        self.last_loss = math.nan
        self.began = time.monotonic()

    def _factor(self, name: str) -> float:
        return next((factor for pattern, factor in self.schedule.faster if re.search(pattern, name)), 1.0)

    def step(self, step: int, device: torch.device) -> dict[str, Tensor]:
        schedule = self.schedule
        torch.manual_seed(zlib.crc32(f"{schedule.seed}/{step}".encode()))
        number, done = which_phase(self.phases, step)
        phase = self.phases[number]
        self._freeze(phase)
        last = schedule.last_learning_rate / max(schedule.learning_rate, 1e-12)
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * warmup_cosine(step / schedule.steps, schedule.warmup, last)
            group["weight_decay"] = self._weight_decay(step / schedule.steps)
        batch = self._draw(phase, done, device)
        with autocast(schedule.precision, device):
            losses = self.learner.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trainable.values(), schedule.clip)
        self.optimiser.step()
        with torch.no_grad():
            for name, mean in self.average.items():
                mean.lerp_(self.trainable[name], 1 - schedule.ema)
        self.learner.after_step((step + 1) / schedule.steps)
        return losses

    def _weight_decay(self, progress: float) -> float:
        first, last = self.schedule.weight_decay, self.schedule.last_weight_decay
        return first if last is None else last + (first - last) * warmup_cosine(progress, 0)

    def _freeze(self, phase: Phase) -> None:
        for name, parameter in self.trainable.items():
            parameter.requires_grad_(not any(re.match(pattern, name) for pattern in phase.frozen))

    def _draw(self, phase: Phase, done: list[int], device: torch.device) -> Batch:
        batch = {}
        for name in phase.modalities:
            drawn = sum(n for n, p in zip(done, self.phases, strict=True) if name in p.modalities)
            rows = self.samplers[phase.modalities[0] if phase.paired else name].draw(drawn)
            batch[name] = to_tensors(self.sources[name].take(rows), device)
        return batch

    def log(self, step: int, losses: dict[str, Tensor]) -> None:
        self.last_loss = float(losses["loss"].detach())
        if not math.isfinite(self.last_loss):
            raise GraticuleError(
                f"The loss is {self.last_loss} at step {step}. Lower the learning rate "
                f"(now {self.schedule.learning_rate:g}); the last checkpoint in {self.folder} is sound."
            )
        training = self.learner.training
        self.learner.eval()
        with torch.no_grad():
            shown = {**losses, **self.learner.diagnose()}
        self.learner.train(training)
        row = {"step": step + 1, "seconds": round(time.monotonic() - self.began, 2)}
        row |= {"learning_rate": self.optimiser.param_groups[0]["lr"]}
        row |= {name: round(float(value.detach()), 5) for name, value in shown.items()}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def save(self, step: int) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self.trainable.values()):
            raise GraticuleError(
                f"Weights are no longer finite after {step} steps. Lower the learning rate "
                f"(now {self.schedule.learning_rate:g}); the last checkpoint in {self.folder} is sound."
            )
        tensors = {f"learner/{name}": value for name, value in self.learner.state_dict().items()}
        tensors |= flatten_optimiser(self.optimiser.state_dict()["state"])
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        save_tensors(self.folder / "resume.safetensors", tensors, step=str(step))

    def resume(self) -> int:
        path = self.folder / "resume.safetensors"
        if not path.exists():
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return 0
        tensors, metadata = load_tensors(path)
        learner = {n.removeprefix("learner/"): t for n, t in tensors.items() if n.startswith("learner/")}
        try:
            self.learner.load_state_dict(learner)
        except RuntimeError as error:
            raise CacheError(f"{path} belongs to another run ({error}). Delete it or choose another folder.") from error
        state = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**state, "state": unflatten_optimiser(tensors)})
        for name in self.average:
            self.average[name].copy_(tensors[f"average/{name}"])
        step = int(metadata["step"])
        self._cut_log(step)
        logger.info("resume %s at step %d", self.folder, step)
        return step

    def _cut_log(self, step: int) -> None:
        path = self.folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        atomic_write(path, lambda temporary: temporary.write_text("".join(line + "\n" for line in kept)))

    def use_average(self) -> None:
        with torch.no_grad():
            for name, mean in self.average.items():
                self.trainable[name].copy_(mean)


def _sampler(
    name: str, rows: Placed, schedule: Schedule
) -> EpochSampler | DensitySampler | StratifiedSampler | TokenSampler:
    if isinstance(rows.features, Tokens):
        if schedule.sampler != "rows":
            raise SettingError(f"{name!r} is drawn by tokens, and sampler must be rows, got {schedule.sampler!r}.")
        lengths = np.minimum(rows.features.lengths, schedule.row_tokens)
        return TokenSampler(name, lengths, schedule.batch_tokens, schedule.seed)
    return sampler(
        schedule.sampler, name, rows.lonlat, schedule.batch_rows.get(name, schedule.batch_size), schedule.seed,
        cell_km=schedule.cell_km, debias=schedule.debias,
    )  # fmt: skip


def warmup_cosine(progress: float, warmup: float, last: float = 0.0) -> float:
    """Factor on the learning rate: linear up to 1 over the share `warmup`, then half a cosine down to `last`."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def autocast(precision: str, device: torch.device) -> Any:
    """The context of mixed precision for a device; "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise SettingError(f'precision must be "auto", "float32" or "bfloat16", got {precision!r}.')
    mixed = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()


def to_tensors(rows: Placed, device: torch.device) -> Placed:
    """The same rows as tensors on a device: places in float64, features as they are stored."""
    ragged = isinstance(rows.features, Tokens)
    features = rows.features if ragged else torch.from_numpy(np.ascontiguousarray(rows.features))
    basis = None if rows.basis is None else torch.from_numpy(np.ascontiguousarray(rows.basis)).to(device)
    return Placed(torch.from_numpy(rows.lonlat).to(device), features.to(device), rows.ids, basis)


def read_log(folder: Path) -> Iterator[dict[str, float]]:
    """The rows of a run's log.jsonl."""
    return (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
