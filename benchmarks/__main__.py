"""Runs every benchmark, or those named, and prints a line per figure; exits 1 if one misses its target."""

import pkgutil
import sys
from importlib import import_module
from pathlib import Path


def main(names: list[str]) -> int:
    """A benchmark is a module of this folder that has `run()`, which yields lines."""
    modules = {
        found.name: import_module(f"benchmarks.{found.name}")
        for found in pkgutil.iter_modules([str(Path(__file__).parent)])
        if found.name != "__main__"
    }
    benchmarks = {name: module.run for name, module in modules.items() if hasattr(module, "run")}
    if unknown := set(names) - set(benchmarks):
        print(
            f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(benchmarks)}", file=sys.stderr
        )
        return 2
    missed = False
    for name in names or benchmarks:
        for line in benchmarks[name]():
            print(f"{name}: {line}", flush=True)
            missed = missed or line.endswith("MISS")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
