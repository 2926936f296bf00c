"""Several processes on this machine that train together, as torchrun would start them, and wait for the next work."""

import os
import pickle
import socket
import traceback
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.multiprocessing

from graticule.training import distributed

LONGEST = 300  # seconds for one work on a machine that does much else


def free_port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Crew:
    """`size` processes; calling it runs `work(together, *arguments)`, a function of a module, in the first of them."""

    def __init__(self, size):
        context = torch.multiprocessing.get_context("spawn")
        self.questions, self.answers = [context.Queue() for _ in range(size)], context.Queue()
        self.processes = [
            context.Process(target=serve, args=(rank, self.questions[rank], self.answers), daemon=True)
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def __call__(self, size, work, *arguments, patience=60.0):
        """What it returns in each process, by rank; what it raises is there as its text."""
        with TemporaryDirectory() as folder:
            port = free_port()
            for question in self.questions[:size]:
                question.put((size, port, folder, patience, work, arguments))
            found = dict(pickle.loads(self.answers.get(timeout=LONGEST)) for _ in range(size))
        return [found[rank] for rank in range(size)]

    def strictly(self, size, work, *arguments):
        """The same, but nothing may be raised."""
        found = self(size, work, *arguments)
        for answer in found:
            assert not (isinstance(answer, str) and "Traceback" in answer), answer
        return found

    def end(self):
        for question in self.questions:
            question.put(None)
        for process in self.processes:
            process.join(20)
            process.kill()


def serve(rank, questions, answers):
    torch.set_num_threads(1)
    while question := questions.get():
        size, port, folder, patience, work, arguments = question
        distributed.PATIENCE = timedelta(seconds=patience)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )
        try:
            with distributed.joined(Path(folder)) as together:
                answer = work(together, *arguments)
        except BaseException:
            answer = traceback.format_exc()
        answers.put(pickle.dumps((rank, answer)))
