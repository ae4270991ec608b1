from itertools import pairwise
from pathlib import Path

import pytest

from exporter import yaml_file
from exporter.errors import ConfigError


def written(directory: Path, text: str | bytes) -> Path:
    path = directory / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_plain_yaml(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffa: {b: [1, x, null]}\nbase: &base {c: 1}\nd: {<<: *base, c: 2}\n")

    assert yaml_file.load(path) == {"a": {"b": [1, "x", None]}, "base": {"c": 1}, "d": {"c": 2}}


def test_an_empty_file_is_none(tmp_path: Path) -> None:
    assert yaml_file.load(written(tmp_path, "# nothing\n")) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", 'line 3, column 1: "a"'),
        ("s:\n  x: 1\n  'x': 2\n", 'line 3, column 3: "x"'),
        ("{k: 1, k: 2}", 'line 1, column 8: "k"'),
    ],
)
def test_a_key_given_twice_is_refused_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as raised:
        yaml_file.load(path)

    assert raised.value.problems == (f"{path}: {place} is given twice",)


@pytest.mark.parametrize(
    "text",
    [
        "secret: *hunter2",
        "secret: !hunter2 x",
        "secret: @hunter2",
        "secret: 'hunter2",
        'secret: "\\hunter2"',
        "secret: !!int hunter2",
        "secret: hunter2: x",
        "secret: hunter2\x00",
        "!!python/object/apply:os.system ['hunter2']",
        b"secret: hunter2\xff",
        "[" * 1000 + "hunter2",
        "a: 1\n---\nsecret: hunter2",
    ],
)
def test_what_cannot_be_read_is_one_line_that_shows_nothing_of_the_file(tmp_path: Path, text: str | bytes) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as raised:
        yaml_file.load(path)

    [problem] = raised.value.problems
    assert problem.startswith(f"{path}: ")
    assert "hunter2" not in problem
    assert "\n" not in problem


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: No such file or directory"):
        yaml_file.load(tmp_path / "missing.yaml")


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n  b: 1\n\tc: 2\n", "a:\n  - x\n \t- y\n", "\ta: 1\n"])
def test_a_tab_that_indents_is_called_a_tab(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="a tab stands where the line is indented; indent with spaces"):
        yaml_file.load(written(tmp_path, text))


BOMBS = {
    "maps": "a: &a {x: 1}\n"
    + "".join(f"{b}: &{b} {{x: *{a}, y: *{a}, z: *{a}}}\n" for a, b in pairwise("abcdefghijklmnopq")),
    "lists": "a: &a [1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopq")),
    "merges": "a: &a {x: 1}\n"
    + "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in pairwise("abcdefghijklmnopq")),
    "itself": "a: &a {x: [*a]}\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_aliases_that_stand_for_more_than_a_file_can_mean_are_refused(tmp_path: Path, bomb: str) -> None:
    path = written(tmp_path, BOMBS[bomb])

    with pytest.raises(ConfigError) as raised:
        yaml_file.load(path)

    [problem] = raised.value.problems
    assert problem.startswith(f"{path}: ")
