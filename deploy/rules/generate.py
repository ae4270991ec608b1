"""Writes the rule files beside this file from templates/: `python deploy/rules/generate.py`.

A template is a rule file with names in double angle brackets. What operators may set is in templates/parameters.yaml;
a rule with `<<window>>` in it is repeated for each window.
"""

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WINDOWS = ("5m", "30m", "1h", "6h", "3d")
# Labels that Prometheus and its operator add to a target, which change with the pod.
POD = "instance, pod, container, service"
CONSTANTS = {
    "pod": POD,
    "target": f"{POD}, endpoint",
    "groups": "name, policy, resource_type, provider, namespace",
}


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something operators may set, and its value in the files beside this one."""

    default: str | int | float
    about: str


def parameters() -> dict[str, Parameter]:
    """What operators may set, by name."""
    text = (HERE / "templates" / "parameters.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), dict[str, Parameter])


def runbooks() -> str:
    """The address below which the runbooks are read."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['urls']['Homepage']}/blob/main/docs/runbooks"


def files(values: Mapping[str, object]) -> dict[str, str]:
    """Each rule file by its name, with these values of the parameters; a parameter without one stays as it is."""
    known = {**CONSTANTS, "runbooks": runbooks(), **values}
    made = {}
    for path in sorted((HERE / "templates").glob("*.yaml")):
        if path.name == "parameters.yaml":
            continue
        blocks = path.read_text(encoding="utf-8").split("\n\n")
        repeated = [
            block.replace("<<window>>", window)
            for block in blocks
            for window in (WINDOWS if "<<window>>" in block else ("",))
        ]
        text = "\n\n".join(repeated).replace("rules:\n\n", "rules:\n")
        made[path.name] = re.sub(r"<<(\w+)>>", lambda found: str(known.get(found[1], found[0])), text)
    return made


def with_defaults() -> dict[str, str]:
    """Each rule file as it is beside this one."""
    return files({name: parameter.default for name, parameter in parameters().items()})


if __name__ == "__main__":
    for name, text in with_defaults().items():
        (HERE / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(with_defaults())} files written\n")
