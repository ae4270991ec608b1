"""Values: no I/O, no clock; standard library and msgspec only."""
