"""Which shard polls a source: rendezvous hashing of its name, so that another total moves the fewest sources (pure)."""

from hashlib import blake2b


def shard_of(source: str, total: int) -> int:
    """Returns the one shard, of 0 to `total` - 1, that polls this source: the one that bids highest for its name."""
    return max(range(total), key=lambda shard: (_bid(source, shard), shard))


def _bid(source: str, shard: int) -> bytes:
    return blake2b(f"{shard}/{source}".encode(), digest_size=8).digest()
