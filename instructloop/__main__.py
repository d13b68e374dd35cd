"""`python -m instructloop` is the command `instructloop`."""

from instructloop.cli import main

main()
