"""What the pages say is so: names exist, links lead somewhere, examples load, translations keep up."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import config, usage
from exporter.exposition.catalogue import ALL_FAMILIES
from exporter.vendorkit.settings import Settings
from exporter.vendors import load_all
from tests.deploy import queries
from tools import reference

ROOT = Path(__file__).parent.parent
READMES = [ROOT / name for name in ("README.md", "README.zh.md", "README.ru.md")]
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("changelog.d/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("exporter/**/*.md"),
    }
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks: what the fence says, and what is in it."""
    return re.findall(r"^```(.+)\n((?:.*\n)*?)```$", text_of(page), flags=re.MULTILINE)


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*\n(?:.*\n)*?```$", "", text_of(page), flags=re.MULTILINE)


# Translations.


@pytest.mark.parametrize("translation", READMES[1:], ids=lambda page: page.name)
def test_a_translation_has_the_same_parts_commands_examples_links_and_names(translation: Path) -> None:
    def skeleton(page: Path) -> dict[str, Any]:
        prose = prose_of(page)
        return {
            "headings": [len(level) for level in re.findall(r"^(#+) ", prose, flags=re.MULTILINE)],
            "blocks": blocks_of(page),
            "links": sorted(link for link in links_in(page) if link not in {file.name for file in READMES}),
            "names": sorted(re.findall(r"`([^`]+)`", " ".join(prose.split()))),
            "items": len(re.findall(r"^- ", prose, flags=re.MULTILINE)),
            "rows": len(re.findall(r"^\|", prose, flags=re.MULTILINE)),
        }

    assert skeleton(translation) == skeleton(READMES[0])


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_a_readme_leads_to_its_translations(page: Path) -> None:
    assert {file.name for file in READMES} - {page.name} <= set(links_in(page))


# Names.


def test_every_metric_is_in_the_list_of_metrics() -> None:
    page = text_of(ROOT / "docs" / "metrics.md")

    assert [family.name for family in ALL_FAMILIES if f"| `{family.name}` |" not in page] == []


@each_page
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    known = {name for name in queries.known_labels() if name.startswith("vendor_")}
    known |= {name.rpartition("_")[0] for name in known if name.endswith("_bucket")}
    known.add("vendor_severity")  # a label, which VendorAlert adds

    named = set(re.findall(r"(?<![\w:./-])vendor_[a-z_]*[a-z](?![\w:/-]|\.(?!\s|$))", text_of(page)))

    assert named - known == set()


def documented_keys() -> set[str]:
    """Every setting by its path, and those of sources also below `auth`, `tls` and so on alone."""

    def paths(kind: type[Settings], at: str = "") -> Iterator[str]:
        yield from (at + key for key in kind.documented())
        for key, below in (*reference.sections(kind), *reference.items(kind)):
            yield from paths(below, f"{at}{key}.")

    kinds: list[type[Settings]] = [config.Config, *(vendor.config for vendor in load_all().values())]
    return {path for kind in kinds for path in paths(kind)}


@each_page
def test_every_setting_that_a_page_names_by_its_path_exists(page: Path) -> None:
    keys = documented_keys()
    sections = "|".join(sorted({key.partition(".")[0] for key in keys if "." in key}))

    named = set(re.findall(rf"`((?:{sections})\.[a-z_][a-z_.]*[a-z])(?::[^`]*)?`", text_of(page)))

    assert {name for name in named - keys if not name.endswith((".py", ".yaml"))} == set()


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_every_setting_and_environment_variable_that_a_readme_names_exists(page: Path) -> None:
    keys = {key for path in documented_keys() for key in path.split(".")}
    variables = {config.variable_for(flag) for flag in usage.FLAGS}

    named = set(re.findall(r"`([a-z_]+): [^`]*`", " ".join(prose_of(page).split())))

    assert named - keys == set()
    assert set(re.findall(r"VENDOR_ALERT_EXPORTER_\w+", text_of(page))) - variables == set()


@each_page
def test_every_flag_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--((?:config|web|log|shard)\.[a-z.-]*[a-z])", text_of(page)))

    assert named - set(usage.FLAGS) == set()


# Examples.


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_whether_ci_runs_a_block_of_a_readme_is_said_at_its_fence(page: Path) -> None:
    fences = {re.sub(r" http://127\S+", " URL", fence) for fence, _ in blocks_of(page)}

    assert fences == {"sh", "sh background URL", "sh elsewhere", "console", "yaml", "promql", "text", "mermaid"}


def test_the_readmes_example_is_a_vendors_own_and_the_configuration_page_has_them_all() -> None:
    own = set(map(reference.example_of, load_all()))

    shown = [body for fence, body in blocks_of(READMES[0]) if fence == "yaml" and body.startswith("sources:")]
    documented = [body for fence, body in blocks_of(ROOT / "docs" / "configuration.md") if fence == "yaml"]

    assert set(shown) <= own
    assert shown
    assert own <= set(documented)


def test_the_readme_scrapes_the_exporter_that_it_starts_and_loads_the_rules_there_are() -> None:
    [text] = [body for fence, body in blocks_of(READMES[0]) if body.startswith("scrape_configs:")]

    found = yaml.safe_load(text)

    [target] = found["scrape_configs"][0]["static_configs"][0]["targets"]
    assert f"--web.listen-address={target}" in text_of(READMES[0])
    assert set(re.findall(r"\w+\.yaml", text)) == {file.name for file in (ROOT / "deploy" / "rules").glob("*.yaml")}


def test_the_readme_lists_every_alert_and_no_other() -> None:
    rules = "".join(text_of(file) for file in (ROOT / "deploy" / "rules").glob("*.yaml"))

    listed = set(re.findall(r"`(Vendor[A-Za-z]+)`", text_of(READMES[0])))

    assert listed == set(re.findall(r"- alert: (\w+)", rules))


@pytest.mark.parametrize("vendor", sorted(load_all()))
def test_the_example_of_a_vendor_loads(vendor: str, tmp_path: Path) -> None:
    text = reference.example_of(vendor).replace("/run/secrets", str(tmp_path))
    for name in re.findall(rf"{tmp_path}/(\S+)", text):
        (tmp_path / name).write_text("s3cret")
    file = tmp_path / "example.yaml"
    file.write_text(text)

    loaded = config.load(file=file, flags={}, environ={})

    assert [source.vendor for source in loaded.sources.values()] == [vendor]


def test_the_queries_of_the_readme_ask_for_what_exists() -> None:
    known = queries.known_labels()

    asked = [body for fence, body in blocks_of(READMES[0]) if fence == "promql"]

    assert len(asked) > 5
    assert [fault for query in asked for fault in queries.faults_in(query, known)] == []


# Links.


def links_in(page: Path) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", prose_of(page))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link]


def anchors_of(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = []
    for link in links_in(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)

    assert dead == []


# Pages about what other files say.


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    assert text_of(reference.DOCS / name) == reference.page(name), "run `make docs`"


def test_every_dependency_has_its_reason_and_no_other_is_listed() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *(line for lines in project["project"].get("optional-dependencies", {}).values() for line in lines),
        *(line for lines in project["dependency-groups"].values() for line in lines),
        *project["build-system"]["requires"],
    ]
    names = sorted({re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted})

    listed = re.findall(r"^\| `([^`]+)` \| \S.*\.", text_of(ROOT / "docs" / "dependencies.md"), flags=re.MULTILINE)

    assert sorted(listed) == names


def test_every_decision_has_its_context_its_content_and_its_consequences() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert pages
    for page in pages:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text_of(page), flags=re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences"], page
