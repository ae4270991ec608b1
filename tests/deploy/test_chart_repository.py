"""The rules by which repositories of charts accept one, as `ct lint` has them."""

import re

import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from tests.deploy.charts import CHART, REPOSITORY

# The rules that chart-testing ships, but for those that are about taste and that it turns off.
RULES = YamlLintConfig("""
rules:
  braces: {min-spaces-inside: 0, max-spaces-inside: 0, min-spaces-inside-empty: -1, max-spaces-inside-empty: -1}
  brackets: {min-spaces-inside: 0, max-spaces-inside: 0, min-spaces-inside-empty: -1, max-spaces-inside-empty: -1}
  colons: {max-spaces-before: 0, max-spaces-after: 1}
  commas: {max-spaces-before: 0, min-spaces-after: 1, max-spaces-after: 1}
  comments: {require-starting-space: true, min-spaces-from-content: 1}
  hyphens: {max-spaces-after: 1}
  indentation: {spaces: consistent, indent-sequences: whatever, check-multi-line-strings: false}
  key-duplicates: enable
  new-line-at-end-of-file: enable
  new-lines: {type: unix}
  trailing-spaces: enable
""")


def test_the_charts_yaml_keeps_to_the_rules() -> None:
    files = [CHART / "Chart.yaml", CHART / "values.yaml", *sorted(CHART.glob("ci/*.yaml"))]

    problems = [f"{file.name}: {problem}" for file in files for problem in linter.run(file.read_text("utf-8"), RULES)]

    assert problems == []


def test_the_charts_metadata_is_what_repositories_ask_for() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert {"apiVersion", "name", "home", "version", "appVersion", "description", "sources", "icon"} <= set(about)
    assert re.fullmatch(r"[1-9]\d*\.\d+\.\d+", about["version"])
    assert about["name"] == CHART.name
    assert all({"name", "url"} <= set(maintainer) for maintainer in about["maintainers"])
    assert (REPOSITORY / about["icon"].rpartition("/raw/main/")[2]).is_file()
    assert "\n## Upgrading\n" in (CHART / "README.md").read_text(encoding="utf-8")


def test_every_values_file_of_ci_is_found_by_chart_testing() -> None:
    assert all(path.name.endswith("-values.yaml") for path in CHART.glob("ci/*"))
