"""One thread everywhere, here and in subprocesses: runs are then repeatable to the bit, and workers do not compete.

Property tests draw the same examples every time; HYPOTHESIS_PROFILE=explore draws new ones, and many more.
"""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from tests.small_run import command, data, refused, run  # noqa: E402, F401
