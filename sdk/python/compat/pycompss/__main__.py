"""`python -m pycompss program.py`: the same as `python -m shoal program.py`."""

import sys

from shoal.__main__ import main

sys.exit(main())
