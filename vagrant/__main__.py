"""`python -m vagrant`."""

from __future__ import annotations

import sys

from vagrant.cli import main

sys.exit(main())
