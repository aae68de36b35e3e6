"""`python -m tracer` is `twtrace`."""

import sys

from tracer.cli import main

sys.exit(main())
