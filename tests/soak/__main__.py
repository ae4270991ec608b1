"""`make soak`: the long runs. Every figure is printed; the exit code is 1 if a promise did not hold.

`python -m tests.soak [walks|churn|flood ...] [--share 0.1]` runs some of them, or a share of their length.
"""

import argparse
import logging
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.rig import VENDORS
from tests.soak.runs import RUNS


def main() -> int:
    """Runs what is asked for, two at a time, each vendor in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", choices=[*RUNS, []], help="which of them (default: all)")
    parser.add_argument("--share", type=float, default=1.0, help="how much of their length (default 1)")
    parser.add_argument("--vendor", action="append", choices=VENDORS, help="only this one; may be repeated")
    given = parser.parse_args()
    failed = 0
    with ProcessPoolExecutor(
        max_workers=2, mp_context=get_context("spawn"), max_tasks_per_child=1, initializer=logging.disable
    ) as pool:
        began = time.monotonic()
        asked = [(run, vendor) for run in given.runs or RUNS for vendor in given.vendor or VENDORS]
        started = {pool.submit(RUNS[run], vendor, given.share): (run, vendor) for run, vendor in asked}
        for future in as_completed(started):
            run, vendor = started[future]
            error = future.exception()
            line, holds = ("".join(traceback.format_exception(error)), False) if error else future.result()
            failed += not holds
            print(f"{'ok  ' if holds else 'FAIL'} {run} {vendor}: {line}", flush=True)
        print(f"{len(started) - failed} passed, {failed} failed")
        print(f"took {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
