"""Flags, environment variables, the YAML file: the layers of the configuration, each over the next."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from exporter import files, yaml_file
from exporter.config import problems
from exporter.config.keys import FLAGS, NAME, PREFIX, Config, Web, merged, variable_for
from exporter.config.problems import Problems
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
    config = layers.read(Config, flags, sources=(_sources_of(load_all() if vendors is None else vendors), {}))
    if config is not None:
        standard = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
        layers.problems.variables += config.otlp.heed(standard)
    layers.problems.keys += _web_problems(layers.document.get("web"))
    if config is None or layers.problems:
        raise ConfigError(*layers.problems)
    config._file = layers.file
    config._warnings = tuple(problems.warnings(config, environ))
    sources = {
        name: source.model_copy(update={"timeout": min(source.timeout, source.interval)})
        for name, source in config.sources.items()
    }
    return config.model_copy(update={"sources": sources})


class _OnlyWeb(BaseModel):
    model_config = ConfigDict(extra="ignore")
    web: Web = Web()


def load_web(*, file: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Web:
    """Returns only the section `web`: what is needed to ask a running daemon, whatever else the file says by now."""
    layers = _Layers(file_from(file, environ), environ, {})
    read = layers.read(_OnlyWeb, flags)
    if read is None:
        raise ConfigError(*layers.problems.keys)
    return read.web


def _web_problems(web: Any) -> Iterator[str]:
    """Yields what is wrong in the web configuration file, if one is named and there."""
    file = web.get("config_file") if isinstance(web, dict) else None
    if isinstance(file, str) and file and Path(file).exists():
        from exporter.exposition import webconfig  # only those who use TLS or passwords pay for them

        try:
            webconfig.check(Path(file))
        except ConfigError as error:
            yield from (f"web.config_file: {problem}" for problem in error.problems)


class _Layers:
    """What the layers are read from, and what was learned in doing so."""

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
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns the layers, the uppermost first."""
        file = _YamlFile(settings_cls, cls.layers)
        return init_settings, _Environment(settings_cls, cls.layers, file.init_kwargs), file

    @model_validator(mode="before")
    @classmethod
    def _remembered(cls, data: Any) -> Any:
        cls.layers.document = data = {"sources": {}} | data
        cls.layers.problems.keys += _same_names(data.get("sources"))
        return data


def _same_names(sources: Any) -> Iterator[str]:
    """Yields which sources a variable could not tell apart."""
    known: dict[str, str] = {}
    for name in sources if isinstance(sources, dict) else ():
        if isinstance(name, str) and (other := known.setdefault(_folded(name), name)) != name:
            yield f"sources.{name}: is the same name as {other} but for case, - and _; choose another"


class _YamlFile(YamlConfigSettingsSource):
    """The file, over the document beneath it; what it names is relative to its own folder, as Prometheus has it."""

    def __init__(self, settings_cls: type[BaseSettings], layers: _Layers) -> None:
        self._layers = layers
        super().__init__(settings_cls, yaml_file=layers.file)

    def _read_files(self, file: Any, deep_merge: bool = False) -> dict[str, Any]:
        """Returns what the file says; unlike the library's own, raises ConfigError for one that is not there."""
        document = yaml_file.load(file) if file is not None else {}
        if not isinstance(document, dict | None):
            raise ConfigError(f"{file}: must be a map of sections such as `sources:`")
        said = {}
        for key, value in (document or {}).items():
            if not isinstance(key, str):
                self._layers.problems.keys.append(f"[{key}]: unknown key; the name of a section is text")
            elif value is not None or key not in Config.model_fields:  # an empty section hides nothing
                said[key] = _rooted(value, file.parent)
        together: dict[str, Any] = merged(self._layers.beneath, said)
        return together


def _rooted(data: Any, folder: Path) -> Any:
    if not isinstance(data, dict):
        return data
    return {
        key: str(folder / files.named(value))
        if isinstance(value, str) and value and str(key).endswith("_file")
        else value
        if key in _NAMED[1:]
        else _rooted(value, folder)
        for key, value in data.items()
    }


class _Environment(EnvSettingsSource):
    """The variables; a name that an operator chose, such as that of a source, is the one beneath that is alike."""

    def __init__(self, settings_cls: type[BaseSettings], layers: _Layers, beneath: Mapping[str, Any]) -> None:
        self._layers = layers
        self._beneath = beneath
        # The names of sources may hold `__`: what the library splits is the path, which is known here.
        super().__init__(settings_cls, env_nested_delimiter="=")

    def _load_env_vars(self) -> Mapping[str, str]:
        origins, found = self._layers.problems, {}
        for variable, value in sorted(self._layers.environ.items()):
            name = variable.upper()
            if not name.startswith(PREFIX) or "__" not in name[len(PREFIX) :] or name == variable_for("config.file"):
                continue
            flag = next((flag for flag in FLAGS if name == variable_for(flag)), None)
            path = FLAGS[flag] if flag else self._path(name[len(PREFIX) :].lower())
            if path[0] not in Config.model_fields:
                origins.unknown(variable, Config.documented(), path[0])
            elif scalar := self._scalar_above(path):
                origins.variables.append(f"{variable}: cannot be set: {scalar} is no map in the file")
            else:
                found[path] = value
                origins.origins[path] = f"the variable {variable}"
        return {PREFIX + "=".join(path): found[path] for path in sorted(found, key=len)}

    def _path(self, rest: str) -> tuple[str, ...]:
        """Returns the path of the key that a variable names."""
        path: tuple[str, ...] = ()
        while rest:
            beneath = self._beneath_of(path) if path and path[-1] in _NAMED else None
            names = [name for name in beneath if isinstance(name, str)] if isinstance(beneath, dict) else []
            named = [name for name in names if _folded(f"{rest}__").startswith(_folded(f"{name}__"))]
            key = max(named, key=len, default=rest.partition("__")[0])
            path, rest = (*path, key), rest[len(key) + 2 :]
        return path

    def _beneath_of(self, path: tuple[str, ...]) -> Any:
        node: Any = self._beneath
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def _scalar_above(self, path: tuple[str, ...]) -> str:
        above = (path[:length] for length in range(1, len(path)))
        return next((".".join(each) for each in above if not isinstance(self._beneath_of(each), dict | None)), "")

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        """Returns a map or list from its JSON; other text is left to the type, which reads it or says what is wrong."""
        try:
            decoded = super().decode_complex_value(field_name, field, value) if field is not None else value
        except (ValueError, RecursionError):
            return value
        return decoded if isinstance(decoded, dict | list) else value


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _sources_of(vendors: Mapping[str, Vendor]) -> Any:
    """Returns the type of the section `sources`: each source is of the model of its vendor."""

    def of_a_vendor(source: Any) -> Any:
        if not isinstance(source, dict):
            raise ValueError("must be a map with at least `vendor` and `endpoint`")  # noqa: TRY004
        vendor = source.get("vendor")
        if not isinstance(vendor, str) or vendor not in vendors:
            what = "missing" if vendor is None else "unknown vendor"
            text = f"{what}; must be {', '.join(sorted(vendors))}{problems.hint(vendor, vendors)}"
            context = {"error": text} | ({"missing": True} if vendor is None else {})
            error = PydanticCustomError("value_error", "{error}", context)
            raise ValidationError.from_exception_data(
                "source", [InitErrorDetails(type=error, loc=("vendor",), input=0)]
            )
        return source

    kinds: Any = Union[tuple(Annotated[vendor.config, Tag(name)] for name, vendor in vendors.items())]  # noqa: UP007
    source: Any = Annotated[kinds, Discriminator(lambda source: source["vendor"]), BeforeValidator(of_a_vendor)]
    return Annotated[dict[Annotated[str, BeforeValidator(_source_name)], source], BeforeValidator(_some_sources)]


def _source_name(name: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ValueError("a source's name is text of letters, digits, - and _, starting with no - or _")
    return name


def _some_sources(sources: Any) -> Any:
    if not isinstance(sources, dict):
        raise ValueError("must be a map: a name, and below it the source")  # noqa: TRY004 pydantic reports ValueErrors
    if not sources:
        raise ValueError("no source is configured; name at least one to poll")
    return sources
