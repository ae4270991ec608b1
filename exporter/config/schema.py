"""The JSON Schema of the configuration file."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from exporter.config.keys import NAME, Config
from exporter.vendorkit.contract import SourceConfig, Vendor
from exporter.vendorkit.settings import Settings, text_from
from exporter.vendors import load_all


class _Schema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Defaults as they are written in the file."""
        return text_from(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def schema(vendors: Mapping[str, Vendor] | None = None) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the configuration file; nothing is required, as the environment may supply it."""
    vendors = load_all() if vendors is None else vendors
    models: list[type[Settings]] = [Config, *(vendor.config for vendor in vendors.values())]
    named, described = models_json_schema([(model, "validation") for model in models], schema_generator=_Schema)
    definitions: dict[str, Any] = _optional(described["$defs"])
    names = {model: named[model, "validation"]["$ref"].rpartition("/")[2] for model in models}
    root = definitions.pop(names[Config])
    definitions.pop(SourceConfig.__name__)
    for vendor in vendors.values():
        definitions[names[vendor.config]]["properties"]["vendor"] = {"const": vendor.name}
    root["properties"]["sources"] |= {
        "propertyNames": {"pattern": f"^{NAME}$"},
        "additionalProperties": {
            "type": "object",
            "properties": {"vendor": {"enum": sorted(vendors), "description": "Which vendor this source is of."}},
            "allOf": [
                {
                    "if": {"properties": {"vendor": {"const": vendor.name}}, "required": ["vendor"]},
                    "then": {"$ref": f"#/$defs/{names[vendor.config]}"},
                }
                for vendor in vendors.values()
            ],
        },
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def _optional(node: Any) -> Any:
    """The schema without what it requires; of keys that exclude each other, that they do remains."""
    if isinstance(node, list):
        return [_optional(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "oneOf" in node and all(set(choice) == {"required"} for choice in node["oneOf"]):
        return {"not": {"required": [key for choice in node["oneOf"] for key in choice["required"]]}}
    # With nothing required, an almost empty section fits several kinds: one of them becomes any of them.
    kept = {key: value for key, value in node.items() if key != "required" or not isinstance(value, list)}
    return {"anyOf" if key == "oneOf" else key: _optional(value) for key, value in kept.items()}
