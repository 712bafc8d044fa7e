"""``python -m polyvisor.cli``."""

from polyvisor.cli import main

main()
