"""The same shards written by Ray Data, on this machine or on a cluster that shares a file system with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from graticule.bulk.job import Job, Shard
from graticule.bulk.shard import job_model, write_shard
from graticule.bulk.workers import Record
from graticule.errors import GraticuleError, need

LOCAL = "local"  # an address: a cluster of this machine alone, started and ended here
STORE_BYTES = 100 << 20  # for descriptions of shards; rows and vectors go by files


class ShardWriter:
    """What runs on a worker of Ray: the model is loaded once, then descriptions of shards come in and records go out.

    Rows and vectors never enter Ray, which would make fixed-size lists and metadata its own: the shard function
    reads and writes the files itself.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.model = job, job_model(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """{"shard": Shard as JSON} -> {"file": its file, "record": what `write_shard` returns, as JSON}."""
        fields = json.loads(row["shard"])
        shard = Shard(**fields | {"groups": tuple(fields["groups"])})
        return {"file": shard.file, "record": json.dumps(write_shard(self.model, self.job, shard))}


def on_cluster(job: Job, shards: Sequence[Shard], workers: int, address: str) -> Iterator[Record]:
    """Write shards by `workers` actors of one core each on the Ray cluster at `address`; yields each when it is done.

    Every machine sees the folder of the job and the input under the same path. A worker that dies is started
    again by Ray. GraticuleError when Ray gives up.
    """
    job = replace(job, folder=job.folder.resolve())
    ray, data = need("ray", "scale"), need("ray.data", "scale")
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    own = not ray.is_initialized()
    if own:
        here = {"num_cpus": workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        ray.init(
            **(here if address == LOCAL else {"address": address}), log_to_driver=False, logging_level=logging.WARNING
        )
    try:
        rows = data.from_items(
            [{"shard": json.dumps(asdict(shard))} for shard in shards], override_num_blocks=len(shards)
        )
        written = rows.map(
            ShardWriter, fn_constructor_args=(job,), num_cpus=1, compute=data.ActorPoolStrategy(size=workers)
        )
        named = {shard.file: shard for shard in shards}
        for row in written.iter_rows():
            yield named[row["file"]], json.loads(row["record"])
    except ray.exceptions.RayError as error:
        raise GraticuleError(f"Ray gave up: {error}. Finished shards are kept: run the same command again.") from error
    finally:
        if own:
            ray.shutdown()
