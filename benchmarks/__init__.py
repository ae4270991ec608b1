"""How fast and how large the exporter is, held against what it must reach: `python -m benchmarks [name ...]`."""
