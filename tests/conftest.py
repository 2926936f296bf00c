"""One thread everywhere, here and in subprocesses: runs are then repeatable to the bit, and workers do not compete."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from tests.small_run import command, data, refused, run  # noqa: E402, F401
