"""The JSON Schema of the configuration file."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import TaggedUnionSchema

from exporter.config.keys import NAME, Config
from exporter.vendorkit.contract import SourceConfig, Vendor
from exporter.vendorkit.settings import Settings, text_from
from exporter.vendors import load_all


class _Schema(GenerateJsonSchema):
    """Requires nothing, as the environment may supply it; spells defaults as the file does."""

    def encode_default(self, dft: Any) -> Any:
        return text_from(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def field_is_required(self, field: Any, total: bool) -> bool:
        return False

    def tagged_union_schema(self, schema: TaggedUnionSchema) -> JsonSchemaValue:
        # With nothing required, an almost empty section fits several kinds: one of them becomes any of them.
        described = super().tagged_union_schema(schema)
        return {"anyOf" if key == "oneOf" else key: value for key, value in described.items()}


def schema(vendors: Mapping[str, Vendor] | None = None) -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of the configuration file."""
    vendors = load_all() if vendors is None else vendors
    models: list[type[Settings]] = [Config, *(vendor.config for vendor in vendors.values())]
    named, described = models_json_schema([(model, "validation") for model in models], schema_generator=_Schema)
    definitions: dict[str, Any] = described["$defs"]
    names = {model: named[model, "validation"]["$ref"].rpartition("/")[2] for model in models}
    root = definitions.pop(names[Config])
    definitions.pop(SourceConfig.__name__)
    for vendor in vendors.values():
        definitions[names[vendor.config]]["properties"]["vendor"] = {"const": vendor.name}
    root["properties"]["sources"] |= {
        "propertyNames": {"pattern": f"^{NAME}$"},
        "additionalProperties": {
            "type": "object",
            "properties": {"vendor": {"enum": sorted(vendors), "description": "Vendor of this source."}},
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
