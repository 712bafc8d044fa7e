"""``python -m polyvisor.standalone``: the process behind ``polyvisor up``."""

import sys

from polyvisor.standalone.process import main

sys.exit(main(sys.argv[1:]))
