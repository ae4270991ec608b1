"""Building blocks of vendor folders."""
