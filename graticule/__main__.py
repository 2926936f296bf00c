"""`python -m graticule`."""

from __future__ import annotations

import sys

from graticule.cli import main

sys.exit(main())
