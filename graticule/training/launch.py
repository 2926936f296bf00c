"""Start several processes on this machine that train one run, and end with one sentence when one of them dies."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from graticule.errors import SettingError


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `python -m graticule ARGUMENTS` as `processes` processes, as torchrun does on one machine; the exit code.

    Cores are shared evenly, unless OMP_NUM_THREADS says otherwise.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if processes < 1:
        raise SettingError(f"At least one process must train, got {processes}.")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "graticule", *arguments)
    except ChildFailedError as error:
        failures = list(error.failures.values())
        if all(failure.exitcode < 0 for failure in failures):  # nobody was left to say why
            rank, first = error.get_first_failure()
            sys.stderr.write(
                f"graticule train: Process {rank} of {processes} (counted from 0) was ended by "
                f"{signal.Signals(-first.exitcode).name}. The same command goes on from the last checkpoint.\n"
            )
        return 1
    return 0
