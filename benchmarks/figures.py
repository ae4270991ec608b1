"""A figure and its target as one line that ends in OK, SLOW or MISS."""

# A machine that is busy with other things makes everything slower by less than this.
_BUSY = 3.0


def ratio(what: str, value: float, *, at_most: float) -> str:
    """A figure of one run held against another of the same run: MISS above the target, whatever the machine."""
    return f"{what}: {value:.2f} (at most {at_most:.2f}) {'OK' if value <= at_most else 'MISS'}"


def absolute(what: str, value: float, unit: str, *, below: float, tolerance: float = _BUSY) -> str:
    """A figure that depends on the machine: SLOW above the target, MISS only where that cannot be the machine."""
    verdict = "OK" if value < below else "SLOW" if value < below * tolerance else "MISS"
    return f"{what}: {value:.3g} {unit} (under {below:g} {unit}) {verdict}"
