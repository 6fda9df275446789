"""Run the agent from the source: `python -m nas.agent serve`."""

import sys

from .command import main

sys.exit(main())
