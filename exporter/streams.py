"""Standard input, output and error, which may be closed, full, or read by nobody."""

import os
import sys


def fill() -> None:
    """Opens closed ones on the null device: else a socket or file would take their numbers and get our output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 it stays open
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 it stays open


def give_up(code: int) -> int:
    """Lets what is still to be written go nowhere, so that the interpreter does not fail on it; returns the code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    return code
