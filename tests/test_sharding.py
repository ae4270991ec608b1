from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.app import of_this_shard
from exporter.config import Shard, load
from exporter.errors import ConfigError
from exporter.sharding import shard_of

SOURCES = [f"team-{n % 7}-source-{n}" for n in range(1000)]


@pytest.mark.parametrize("total", range(1, 17))
def test_the_shards_of_a_thousand_sources_are_complete_and_disjoint(total: int) -> None:
    shards = [{name for name in SOURCES if shard_of(name, total) == index} for index in range(total)]

    assert set.union(*shards) == set(SOURCES)
    assert sum(map(len, shards)) == len(SOURCES)
    assert min(map(len, shards)) > 1000 / total * 0.6


@pytest.mark.parametrize("total", range(1, 16))
def test_one_more_shard_moves_sources_only_to_itself(total: int) -> None:
    moved = [name for name in SOURCES if shard_of(name, total) != shard_of(name, total + 1)]

    assert {shard_of(name, total + 1) for name in moved} == {total}
    assert len(moved) < 1000 / (total + 1) * 1.4


@given(st.text(min_size=1), st.integers(1, 64))
def test_every_name_has_one_shard_within_the_total(name: str, total: int) -> None:
    assert shard_of(name, total) in range(total)


@pytest.mark.parametrize(
    ("index", "total", "host", "number"), [(None, 1, "x", 0), (2, 3, "x", 2), (None, 3, "vae-1", 1)]
)
def test_a_shard_knows_its_number_by_setting_or_by_the_host_name(
    index: int | None, total: int, host: str, number: int
) -> None:
    assert Shard(index=index, total=total).number(host) == number


@pytest.mark.parametrize("host", ["laptop", "vae-3", "vae-x"])
def test_a_shard_that_cannot_tell_its_number_says_so(host: str) -> None:
    with pytest.raises(ValueError, match=r"set shard\.index"):
        Shard(total=3).number(host)


def test_an_index_beyond_the_total_is_refused() -> None:
    with pytest.raises(ConfigError, match="below total"):
        load(file=None, flags={"shard.index": "3", "shard.total": "3"}, environ={})


def test_each_process_keeps_the_sources_of_its_shard() -> None:
    environ = {
        f"VENDOR_ALERT_EXPORTER_SOURCES__S{n}__{key}": value
        for n in range(20)
        for key, value in {"VENDOR": "key_astrom", "ENDPOINT": "http://127.0.0.1:1", "AUTH__API_TOKEN": "t"}.items()
    }
    flags = [{"shard.index": str(index), "shard.total": "4"} for index in range(4)]

    parts = [of_this_shard(load(file=None, flags=given, environ=environ)).sources for given in flags]

    assert Counter(name for part in parts for name in part) == Counter(f"s{n}" for n in range(20))
