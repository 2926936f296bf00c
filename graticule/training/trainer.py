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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graticule.data.balanced import DensitySampler, StratifiedSampler, sampler
from graticule.data.loader import EpochSampler, TokenSampler
from graticule.errors import GraticuleError, SettingError
from graticule.geo.placed import Batch, Placed
from graticule.geo.tokens import Tokens
from graticule.learners.base import Learner
from graticule.learners.together import Together
from graticule.progress import Progress
from graticule.training import checkpoint
from graticule.training.distributed import as_in_the_first, average_gradients, clip_gradients, in_shards, whole
from graticule.training.drawing import Ahead, Watch, on_device, on_host

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
    fused: bool | None = None  # AdamW in one kernel; None: on CUDA only (elsewhere the last digit differs)
    compile: bool = False  # torch.compile of the learner's networks
    shard: bool = False  # with several processes each holds a part of the networks' weights (FSDP2)
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 200


def fit(learner: Learner, sources: Batch, phases: Sequence[Phase], schedule: Schedule, folder: Path) -> None:
    """Train in place, going round the phases; log to `folder`/log.jsonl, checkpoint to `folder`/resume.safetensors.

    Exact resume: a run killed at any moment and called again ends with the weights of the
    uninterrupted one (bit-identical on one thread), since draws and random numbers depend on the
    step alone. Where the processes of torch's process group call it together, each learns from its share of the same
    rows and the first one writes; another number of processes may go on. Raises CacheError for a damaged checkpoint
    and GraticuleError when the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loop = _Loop(learner, sources, phases, schedule, folder)
    start = loop.resume()
    if start < schedule.steps:
        loop.run(start)
    loop.finish()


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
        self.sources, self.phases, self.schedule, self.folder = sources, phases, schedule, folder
        self.device = next(learner.parameters()).device
        self.together = Together.now()
        self.asked = learner
        as_in_the_first(learner, self.together)
        self.shards = schedule.shard and self.together.size > 1
        self.learner = in_shards(learner, self.device, self.together) if self.shards else learner
        self.learner.together = self.together
        if schedule.compile:
            for network in self.learner.networks():
                network.compile()
        self.trainable = {name: p for name, p in self.learner.named_parameters() if p.requires_grad}
        if not self.trainable:
            raise SettingError("Nothing can be trained: every parameter of the learner is frozen.")
        self.optimiser = torch.optim.AdamW(
            self._groups(),
            weight_decay=schedule.weight_decay,
            betas=(0.9, schedule.beta2),
            fused=self.device.type == "cuda" if schedule.fused is None else schedule.fused,
        )
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.samplers = {name: _sampler(name, rows, schedule) for name, rows in sources.items()}
        self.average = {n: p.detach().clone() for n, p in self.trainable.items()} if schedule.ema else {}
        self.state = checkpoint.State(self.learner, self.trainable, self.optimiser, self.average)
        self.last_loss = self.last_waited = math.nan
        self.began = time.monotonic()
        self.watch = Watch(self.device)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters that one kernel can step together: of one learning rate, and either whole or in shards."""
        groups: dict[tuple[float, type], list[nn.Parameter]] = {}
        for name, parameter in self.trainable.items():
            groups.setdefault((self._factor(name), type(parameter.data)), []).append(parameter)
        rate = self.schedule.learning_rate
        return [{"params": some, "lr": rate * factor} for (factor, _), some in groups.items()]

    def _factor(self, name: str) -> float:
        return next((factor for pattern, factor in self.schedule.faster if re.search(pattern, name)), 1.0)

    def run(self, start: int) -> None:
        schedule = self.schedule
        with (
            Progress(f"train {self.folder.name}", schedule.steps, start=start, unit="steps") as progress,
            Ahead(self.draw, start, schedule.steps) as batches,
        ):
            for step in range(start, schedule.steps):
                with self.watch.waiting():
                    batch = on_device(batches.take(), self.device)
                losses = self.step(step, batch)
                if (step + 1) % schedule.log_every == 0 or step + 1 == schedule.steps:
                    self.log(step, losses)
                if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
                    self.save(step + 1)
                progress.advance(note=self.note())

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        schedule = self.schedule
        torch.manual_seed(zlib.crc32(f"{schedule.seed}/{step}".encode()))
        frozen = self._freeze(self.phases[which_phase(self.phases, step)[0]])
        last = schedule.last_learning_rate / max(schedule.learning_rate, 1e-12)
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * warmup_cosine(step / schedule.steps, schedule.warmup, last)
            group["weight_decay"] = self._weight_decay(step / schedule.steps)
        with autocast(schedule.precision, self.device):
            losses = self.learner.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        for parameter in frozen:
            parameter.grad = None
        average_gradients(self.trainable.values(), self.together)
        clip_gradients(list(self.trainable.values()), schedule.clip)
        self.optimiser.step()
        with torch.no_grad():
            for name, mean in self.average.items():
                mean.lerp_(self.trainable[name], 1 - schedule.ema)
        self.learner.after_step((step + 1) / schedule.steps)
        return losses

    def _weight_decay(self, progress: float) -> float:
        first, last = self.schedule.weight_decay, self.schedule.last_weight_decay
        return first if last is None else last + (first - last) * warmup_cosine(progress, 0)

    def _freeze(self, phase: Phase) -> list[nn.Parameter]:
        """Those that stand still in a phase; weights in shards go on asking for gradients, which are dropped."""
        frozen = []
        for name, parameter in self.trainable.items():
            still = any(re.match(pattern, name) for pattern in phase.frozen)
            parameter.requires_grad_(self.shards or not still)
            frozen += [parameter] * still
        return frozen

    def draw(self, step: int) -> Batch:
        """The rows of a step in memory: this process's share of them, or all for a learner that takes it itself."""
        number, done = which_phase(self.phases, step)
        phase, batch = self.phases[number], {}
        for name in phase.modalities:
            drawn = sum(n for n, p in zip(done, self.phases, strict=True) if name in p.modalities)
            rows = self.samplers[phase.modalities[0] if phase.paired else name].draw(drawn)
            source = self.sources[name]
            if self.together.size == 1 or self.learner.whole_batches:
                own = source.take(rows)
            else:
                own = replace(source.take(rows[self.together.share(len(rows))]), whole=source.lonlat[rows])
            batch[name] = on_host(own, pinned=self.device.type == "cuda")
        return batch

    def log(self, step: int, losses: dict[str, Tensor]) -> None:
        means = self.together.mean(losses) if self.together.size > 1 else losses
        self.last_loss, self.last_waited = float(means["loss"].detach()), self.watch.waited()
        if not math.isfinite(self.last_loss):
            raise GraticuleError(
                f"The loss is {self.last_loss} at step {step}. Lower the learning rate "
                f"(now {self.schedule.learning_rate:g}); the last checkpoint in {self.folder} is sound."
            )
        training = self.learner.training
        self.learner.eval()
        with torch.no_grad():
            shown = {**means, **self.learner.diagnose()}
        self.learner.train(training)
        row = {"step": step + 1, "seconds": round(time.monotonic() - self.began, 2)}
        row |= {"waited": round(self.last_waited, 4), "learning_rate": self.optimiser.param_groups[0]["lr"]}
        row |= {name: round(float(value.detach()), 5) for name, value in shown.items()}
        if self.together.rank == 0:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def note(self) -> str:
        return f"loss {self.last_loss:.3f}, waited {self.last_waited:.0%}" if math.isfinite(self.last_loss) else ""

    def save(self, step: int) -> None:
        finite = torch.stack([whole(parameter.isfinite().all()) for parameter in self.trainable.values()])
        if not bool(finite.all()):
            raise GraticuleError(
                f"Weights are no longer finite after {step} steps. Lower the learning rate "
                f"(now {self.schedule.learning_rate:g}); the last checkpoint in {self.folder} is sound."
            )
        checkpoint.save(self.folder / "resume.safetensors", self.state, step, writes=self.together.rank == 0)

    def resume(self) -> int:
        path, log = self.folder / "resume.safetensors", self.folder / "log.jsonl"
        step = checkpoint.restore(path, self.state) if path.exists() else 0
        if self.together.rank == 0 and step:
            checkpoint.cut_log(log, step)
            logger.info("resume %s at step %d", self.folder, step)
        elif self.together.rank == 0:
            log.unlink(missing_ok=True)
        return step

    def finish(self) -> None:
        """The weights, or their moving average, go to the learner that was given."""
        with torch.no_grad():
            for name, mean in self.average.items():
                self.trainable[name].copy_(mean)
        if self.shards:
            self.asked.load_state_dict({name: whole(value) for name, value in self.learner.state_dict().items()})


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


def read_log(folder: Path) -> Iterator[dict[str, float]]:
    """The rows of a run's log.jsonl."""
    return (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
