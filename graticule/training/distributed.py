"""Several processes that train one run: how they meet, agree on gradients, share weights, and notice a death."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import IO

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graticule.errors import GraticuleError, SettingError
from graticule.learners.base import Learner
from graticule.learners.together import Together

logger = logging.getLogger(__name__)
PATIENCE = timedelta(minutes=10)  # how long one process waits for another within a step
FOR_EVER = timedelta(days=365)  # and while the first one reads and caches the data alone
SAID, LEFT = "said", "left"  # in the file of a process that has ended with a message of its own, or after others had
SECONDS_TO_NOTICE = 3.0


class ProcessError(GraticuleError):
    """Another process of the run has ended or does not answer."""


@contextmanager
def joined(folder: Path) -> Iterator[Together]:
    """Meet the other processes that torchrun has started, if any, to train the run of `folder`; part at the end.

    A process that dies, by whatever cause, ends the others: the first of those left raises a ProcessError that says
    which one it was and how to go on, the others leave quietly. Each holds a lock on a file of its own in the folder
    as long as it lives, which is how the others know.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1 or dist.is_initialized():
        yield Together.now()
        return
    with _sign_of_life(folder, rank) as sign, _told_to_end():
        together = Together(rank, size)
        if rank > 0:
            logging.getLogger("graticule").setLevel(logging.WARNING)
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            yield together
        except GraticuleError as error:
            _deaf_to_sigterm()
            if rank > 0 and _first_has_said(folder):
                raise SystemExit(1) from None
            _note(sign, SAID)
            _tell_torchrun(error)
            raise
        except (RuntimeError, _ToldToEnd) as error:
            _deaf_to_sigterm()
            reason = _explained(error, folder, together)
            if reason is error:
                raise
            _note(sign, LEFT if isinstance(reason, SystemExit) else SAID)
            _tell_torchrun(reason)
            raise reason from None
        else:
            forget_signs(folder, rank)
        finally:
            with contextlib.suppress(RuntimeError, ValueError):
                dist.destroy_process_group()


@contextmanager
def first_then_others(together: Together) -> Iterator[None]:
    """What the first process does within it the others do after it: they find on disk what it has cached."""
    group = dist.new_group(backend="gloo", timeout=FOR_EVER) if together.size > 1 else None
    if together.rank > 0:
        dist.barrier(group)
    yield
    if together.rank == 0 and together.size > 1:
        dist.barrier(group)


def wait_for_all(together: Together) -> None:
    """Go on when all processes are here."""
    if together.size > 1:
        dist.barrier()


def forget_signs(folder: Path, rank: int | str = "*") -> None:
    """Take away the files by which processes said that they lived."""
    for path in folder.glob(f".process-{rank}"):
        path.unlink(missing_ok=True)


def as_in_the_first(learner: Learner, together: Together) -> None:
    """All weights and statistics become those of the first process: another processor may have rounded otherwise."""
    if together.size > 1:
        for tensor in learner.state_dict().values():
            dist.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter], together: Together) -> None:
    """Each gradient becomes its mean over processes, all in one exchange; what has none anywhere keeps none.

    The loss of a learner is no forward pass of a module, and what takes part changes from phase to phase: so one
    exchange of all gradients after the backward pass, not DDP. Weights in shards have had theirs in that pass.
    """
    if together.size == 1:
        return
    own = [p for p in parameters if not _in_shards(p)]
    there = torch.tensor([p.grad is not None for p in own], dtype=torch.uint8)
    dist.all_reduce(there, dist.ReduceOp.MAX)
    used = [p for p, anywhere in zip(own, there.tolist(), strict=True) if anywhere]
    if not used:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in used])
    dist.all_reduce(flat)
    flat /= together.size
    for parameter, mean in zip(used, torch.split(flat, [p.numel() for p in used]), strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype)


def clip_gradients(parameters: Sequence[nn.Parameter], most: float) -> None:
    """Scale all gradients so that their norm over all weights, in shards or not, is at most `most`."""
    if not any(_in_shards(p) for p in parameters):
        torch.nn.utils.clip_grad_norm_(parameters, most)
        return
    norms = [whole(torch.linalg.vector_norm(p.grad)) for p in parameters if p.grad is not None]
    factor = (most / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)).clamp(max=1)
    for parameter in parameters:
        if parameter.grad is not None:
            _local(parameter.grad).mul_(factor)


def in_shards(learner: Learner, device: torch.device, together: Together) -> Learner:
    """A copy of the learner of whose networks each process holds a part, and all of one only while it runs (FSDP2).

    Blocks of a network are gathered one after another. What is not in a network is small and whole everywhere.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    copy = deepcopy(learner.cpu())
    mesh = init_device_mesh(device.type, (together.size,))
    for network in copy.networks():
        for module in network.modules():
            if isinstance(module, nn.ModuleList):
                for block in module:
                    fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)
    return copy.to(device)


def whole(tensor: Tensor) -> Tensor:
    """A tensor in shards as one; any other as it is. All processes must ask for it together."""
    full: Tensor = tensor.full_tensor() if _in_shards(tensor) else tensor  # type: ignore[attr-defined]
    return full


def divided(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in shards as `like` is, where that is."""
    if not _in_shards(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


def _in_shards(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _local(tensor: Tensor) -> Tensor:
    local: Tensor = tensor.to_local() if _in_shards(tensor) else tensor  # type: ignore[attr-defined]
    return local


def _tell_torchrun(error: BaseException) -> None:
    """Leave the message where torchrun reads it, for the table that it prints last."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": str(error), "timestamp": str(int(time.time()))}
        Path(path).write_text(json.dumps({"message": {"message": str(error), "extraInfo": extra}}))


class _ToldToEnd(BaseException):
    """SIGTERM, as torchrun sends it to those that are left when one has died."""


@contextmanager
def _told_to_end() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _ToldToEnd

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def _deaf_to_sigterm() -> None:
    """All that is left to do is to say why."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _sign_of_life(folder: Path, rank: int) -> Iterator[IO[str]]:
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    path = _sign(folder, rank)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingError(f"{folder} is being trained already: a process that lives has locked {path}.") from error
        file.truncate(0)
        yield file


def _sign(folder: Path, rank: int) -> Path:
    return folder / f".process-{rank}"


def _note(sign: IO[str], text: str) -> None:
    sign.write(text)
    sign.flush()


def _noted(folder: Path, rank: int) -> str:
    return _sign(folder, rank).read_text() if _sign(folder, rank).exists() else ""


def _dead(folder: Path, together: Together) -> list[int]:
    """Processes that no longer hold the lock on their file, without those that left because of another."""
    import fcntl

    found = []
    for rank in range(together.size):
        if rank != together.rank and _sign(folder, rank).exists() and _noted(folder, rank) != LEFT:
            with _sign(folder, rank).open() as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                found.append(rank)
    return found


def _first_has_said(folder: Path) -> bool:
    until = time.monotonic() + SECONDS_TO_NOTICE
    while time.monotonic() < until:
        if _noted(folder, 0) == SAID:
            return True
        time.sleep(0.02)
    return False


def _explained(error: BaseException, folder: Path, together: Together) -> BaseException:
    """What ended this process: another that died, or is silent, or what it says itself."""
    until = time.monotonic() + SECONDS_TO_NOTICE
    while not (dead := _dead(folder, together)) and time.monotonic() < until:
        time.sleep(0.05)
    if any(_noted(folder, rank) == SAID for rank in dead) or (dead and together.rank > _first(dead)):
        return SystemExit(1)
    go_on = f"The same command, with any number of processes, goes on from the last checkpoint in {folder}."
    if dead:
        which = f"Process {dead[0]}" if len(dead) == 1 else f"Processes {', '.join(map(str, dead))}"
        return ProcessError(f"{which} of {together.size} (counted from 0) died, and so training stopped. {go_on}")
    if isinstance(error, _ToldToEnd):
        return SystemExit(128 + signal.SIGTERM)
    if "imed out" in str(error):
        return ProcessError(
            f"Process {together.rank} of {together.size} waited {PATIENCE.total_seconds():g} s for the others, which "
            f"live but do not answer, and so training stopped. {go_on}"
        )
    return error


def _first(dead: Sequence[int]) -> int:
    """The first process that lives."""
    return next(rank for rank in range(len(dead) + 1) if rank not in dead)
