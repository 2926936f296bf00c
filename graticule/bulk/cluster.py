"""The same shards written by Ray Data, on this machine or on a cluster that shares a file system with it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from graticule.bulk.job import Job, Shard
from graticule.bulk.shard import job_model, write_shard
from graticule.bulk.workers import Record
from graticule.embed import Model
from graticule.errors import GraticuleError, need

LOCAL = "local"  # an address: a cluster of this machine alone, started and ended here
STORE_BYTES = 100 << 20  # for descriptions of shards; rows and vectors go by files


class ShardWriter:
    """What runs on a worker of Ray: the model is loaded once, then descriptions of shards come in and records go out.

    Rows and vectors never enter Ray, which would make fixed-size lists and metadata its own: the shard function
    reads and writes the files itself.
    """

    def __init__(self) -> None:
        self.model: Model | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """{"task": Job and Shard} -> {"answer": the Shard and what `write_shard` returns or raises}, both pickled."""
        job, shard = pickle.loads(row["task"])
        try:
            self.model = self.model or job_model(job)
            answer: Any = write_shard(self.model, job, shard)
        except GraticuleError as error:
            answer = error
        return {"answer": pickle.dumps((shard, answer))}


def on_cluster(job: Job, shards: Sequence[Shard], workers: int, address: str) -> Iterator[Record]:
    """Write shards by `workers` actors of one core each on the Ray cluster at `address`; yields each when it is done.

    Every machine sees the folder of the job and the input under the same path. A worker that dies is started
    again by Ray. GraticuleError when Ray gives up.
    """
    alone = replace(job, folder=job.folder.resolve(), shards=(), done={})
    ray, data = need("ray", "scale"), need("ray.data", "scale")
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own = not ray.is_initialized()
    if own:
        here = {"num_cpus": workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        ray.init(
            **(here if address == LOCAL else {"address": address}), log_to_driver=False, logging_level=logging.WARNING
        )
    try:
        rows = data.from_items(
            [{"task": pickle.dumps((alone, shard))} for shard in shards], override_num_blocks=len(shards)
        )
        written = rows.map(ShardWriter, num_cpus=1, compute=data.ActorPoolStrategy(size=workers))
        for row in written.iter_rows():
            shard, answer = pickle.loads(row["answer"])
            if isinstance(answer, GraticuleError):
                raise answer
            yield shard, answer
    except ray.exceptions.RayError as error:
        raise GraticuleError(
            f"Ray gave up ({type(error).__name__}). Finished shards are kept: run the same command again to go on."
        ) from error
    finally:
        if own:
            ray.shutdown()
