"""What vendor folders are made of."""
