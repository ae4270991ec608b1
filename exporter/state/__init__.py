"""The state of sources: pure, without I/O or a clock."""
