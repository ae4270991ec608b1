"""What we remember: pure, without I/O and without a clock."""
