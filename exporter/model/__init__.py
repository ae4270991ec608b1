"""Model: plain values without I/O or a clock; standard library and msgspec only."""
