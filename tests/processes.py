"""Several processes on this machine that train together, as torchrun would start them."""

import os
import pickle
import socket
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.multiprocessing

from graticule.training.distributed import joined


def free_port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(rank, size, port):
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip


def _one(rank, size, port, folder, work, arguments):
    os.environ.update(environment(rank, size, port))
    torch.set_num_threads(1)
    with joined(Path(folder)) as together:
        result = work(together, *arguments)
    Path(folder, str(rank)).write_bytes(pickle.dumps(result))


def in_processes(size, work, *arguments):
    """What `work(together, *arguments)`, a function of a module, returns in each of `size` processes."""
    with TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_one, (size, free_port(), folder, work, arguments), nprocs=size)
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(size)]
