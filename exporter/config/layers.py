"""Flags, environment variables, the YAML file: the layers of the configuration, each over the next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from pydantic_settings import PydanticBaseSettingsSource as Layer

from exporter import files, yaml_file
from exporter.config.keys import FLAGS, PREFIX, Config, OnlyWeb, Web, folded, merged, sources_of, value_at, variable_for
from exporter.config.problems import Problems, warnings
from exporter.errors import ConfigError
from exporter.vendorkit.contract import Vendor
from exporter.vendors import load_all

# Maps whose keys an operator names; a variable spells these in any case, and with `_` for `-`.
_NAMED = ("sources", "labels", "severity_map", "headers", "resource")

M = TypeVar("M", bound=BaseModel)


def file_from(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Returns the configuration file: as the flag says, else the environment."""
    named = next((value for name, value in environ.items() if name.upper() == variable_for("config.file")), "")
    return file or (Path(named) if named else None)


def load(
    *,
    file: Path | None,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    beneath: Mapping[str, Any] | None = None,
    vendors: Mapping[str, Vendor] | None = None,
) -> Config:
    """Returns the configuration, as the file says, the environment over it and the flags (keys of FLAGS) over both.

    `beneath` is a document that the file lies over. Raises ConfigError with every problem at once, each as
    `path.in.file: what is wrong; what to do`.
    """
    layers = _Layers(file_from(file, environ), environ, beneath or {})
    config = layers.read(Config, flags, sources=(sources_of(load_all() if vendors is None else vendors), {}))
    if config is not None:
        layers.problems.variables += config.otlp.heed({name: environ[name] for name in environ if name[:5] == "OTEL_"})
    if config is None or layers.problems.all():
        raise ConfigError(*layers.problems.all())
    return config.completed(layers.file, warnings(config, environ))


def load_web(*, file: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Web:
    """Returns only the section `web`, which is enough to ask a running daemon, whatever else the file says now."""
    layers = _Layers(file_from(file, environ), environ, {})
    read = layers.read(OnlyWeb, flags)
    if read is None:
        raise ConfigError(*layers.problems.keys)
    return read.web


class _Layers:
    """Sources of the layers, and what was learned from reading them."""

    def __init__(self, file: Path | None, environ: Mapping[str, str], beneath: Mapping[str, Any]) -> None:
        self.file = file
        self.environ = environ
        self.beneath = dict(beneath)
        self.document: dict[Any, Any] = {}
        self.problems = Problems()

    def read(self, model: type[M], flags: Mapping[str, Any], **fields: Any) -> M | None:
        """Returns the layers as this model, with these fields instead of its own; None if there are problems."""
        layered: Any = create_model(model.__name__, __base__=(_Layered, model), **fields)
        layered.layers = self
        given: dict[str, Any] = {}
        for flag, value in flags.items():
            section, key = FLAGS[flag]
            given.setdefault(section, {})[key] = value
            self.problems.origins[section, key] = f"the flag --{flag}"
        try:
            read: M = layered(**given)
        except ValidationError as error:
            self.problems.add(error, self.document)
            return None
        return read


class _Layered(BaseSettings):
    """Base of the models that are read from layers."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=True)
    layers: ClassVar[_Layers]

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Layer, *_: Layer, **_others: Layer
    ) -> tuple[Layer, ...]:
        """Returns the layers, the uppermost first."""
        file = _YamlFile(settings_cls, cls.layers)
        return init_settings, _Environment(settings_cls, cls.layers, file.init_kwargs), file

    @model_validator(mode="before")
    @classmethod
    def _remembered(cls, data: Any) -> Any:
        cls.layers.document = data
        return data


class _YamlFile(YamlConfigSettingsSource):
    """The file, over the document beneath it; what it names is relative to its own folder, as Prometheus has it."""

    def __init__(self, settings_cls: type[BaseSettings], layers: _Layers) -> None:
        self._layers = layers
        super().__init__(settings_cls, yaml_file=layers.file)

    def _read_files(self, file: Any, deep_merge: bool = False) -> dict[str, Any]:
        """Returns what the file says; unlike the library's own, raises ConfigError for one that is not there."""
        document = (yaml_file.load(file) if file is not None else None) or {}
        if not isinstance(document, dict):
            raise ConfigError(f"{file}: must be a map of sections such as `sources:`")
        for key in [key for key in document if not isinstance(key, str)]:
            del document[key]
            self._layers.problems.keys.append(f"[{key}]: unknown key; the name of a section is text")
        # A section whose keys are all commented out hides nothing.
        said = {key: value for key, value in document.items() if value is not None or key not in Config.model_fields}
        together: dict[str, Any] = merged(self._layers.beneath, _rooted(said, file.parent) if said else {})
        return together


def _rooted(data: Any, folder: Path, key: Any = "") -> Any:
    """Returns the data with the names of files made complete."""
    if isinstance(data, dict) and key not in _NAMED[1:]:
        return {name: _rooted(value, folder, name) for name, value in data.items()}
    named = isinstance(data, str) and data and str(key).endswith("_file")
    return str(folder / files.named(data)) if named else data


class _Environment(EnvSettingsSource):
    """The variables; a name that an operator chose, such as that of a source, is the one beneath that is alike."""

    def __init__(self, settings_cls: type[BaseSettings], layers: _Layers, beneath: Mapping[str, Any]) -> None:
        self._layers = layers
        self._beneath = beneath
        # The names of sources may hold `__`: what the library splits is the path, which is known here.
        super().__init__(settings_cls, env_nested_delimiter="=")

    def _load_env_vars(self) -> Mapping[str, str]:
        problems, found = self._layers.problems, {}
        of_flags = {variable_for(flag): path for flag, path in FLAGS.items()}
        for variable, value in sorted(self._layers.environ.items()):
            name = variable.upper()
            if not name.startswith(PREFIX) or "__" not in name[len(PREFIX) :] or name == variable_for("config.file"):
                continue
            path = of_flags.get(name) or self._path(name[len(PREFIX) :].lower())
            above = (path[:length] for length in range(1, len(path)))
            if path[0] not in Config.model_fields:
                problems.unknown(variable, path[0], Config.model_fields)
            elif no_map := next((at for at in above if not isinstance(value_at(self._beneath, at), dict | None)), ()):
                problems.variables.append(f"{variable}: cannot be set: {'.'.join(no_map)} is not a map in the file")
            else:
                found[path] = value
                problems.origins[path] = f"the variable {variable}"
        return {PREFIX + "=".join(path): found[path] for path in sorted(found, key=len)}

    def _path(self, rest: str) -> tuple[str, ...]:
        """Returns the path of the key that a variable names."""
        path: tuple[str, ...] = ()
        while rest:
            beneath = value_at(self._beneath, path) if path and path[-1] in _NAMED else None
            names = [name for name in beneath if isinstance(name, str)] if isinstance(beneath, dict) else []
            alike = [name for name in names if folded(f"{rest}__").startswith(folded(f"{name}__"))]
            key = max(alike, key=len, default=rest.partition("__")[0])
            path, rest = (*path, key), rest[len(key) + 2 :]
        return path

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        """Returns a map or list from its JSON; other text is left to the type, which reads it or says what is wrong."""
        try:
            decoded = super().decode_complex_value(field_name, field, value) if field is not None else value
        except (ValueError, RecursionError):
            return value
        return decoded if isinstance(decoded, dict | list) else value
