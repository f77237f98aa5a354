"""A YAML file with ``key=value`` overrides as a dataclass that describes it: typed, strict, every error in one line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.training.other_words import hint

TEXT_OR_LIST = 'text_or_list'
"""In the metadata of a field: one text or several."""
Schema = TypeVar('Schema')


def load_yaml(
    path: str | Path,
    schema: type[Schema],
    overrides: Sequence[str] = (),
    before_merging: Callable[[DictConfig, DictConfig], None] | None = None,
) -> Schema:
    """Read any YAML that a dataclass describes; raises as :func:`load_config` does.

    Args:
        path: Of the YAML.
        schema: The dataclass.
        overrides: ``key=value``.
        before_merging: May change what the YAML says, and the overrides, before these are put over it.
    """
    if not Path(path).is_file():
        raise InputError(f'There is no YAML at {path}: see the ones under yamls/.')
    try:
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise InputError(f'{path} must be a mapping of keys, but got: a list.')
        given = _parsed(overrides, schema)
        if before_merging is not None:
            before_merging(loaded, given)
        merged = OmegaConf.merge(loaded, given)
        _refuse_unknown(cast(DictConfig, merged), schema, str(path))
        config = OmegaConf.merge(OmegaConf.structured(schema), merged)
        OmegaConf.resolve(config)
        return cast(Schema, OmegaConf.to_object(config))
    except InputError as error:
        # One that a dataclass raised comes back with OmegaConf's own lines added.
        raise InputError(str(error).splitlines()[0]) from error
    except MissingMandatoryValue as error:
        raise InputError(
            f'{path}: `{error.full_key}` must be given: add it, or pass {error.full_key}=...'
        ) from error
    except OmegaConfBaseException as error:
        key = getattr(error, 'full_key', None) or getattr(error, 'key', None) or 'a key'
        raise InputError(f'{path}: `{key}`: {str(error).splitlines()[0]}') from error
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise InputError(f'{path} cannot be read as YAML: {first_line(error)}') from error
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        # OmegaConf's own checks of what an override would make of a list or a value.
        what = f'{path} with {" ".join(overrides)}' if overrides else str(path)
        raise InputError(f'{what}: keys that do not go together: {first_line(error)}') from error


def leaves(mapping: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Each key of nested mappings, with dots, and its value; a mapping with nothing in it is a value."""
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def _parsed(overrides: Sequence[str], schema: type) -> DictConfig:
    """Overrides as a configuration; what is to be text stays as it was typed (`run_name=no`, `run_name=1e3`)."""
    for override in overrides:
        if '=' not in override:
            raise InputError(f'An override must look like key=value, but got: {override!r}.')
    parsed = OmegaConf.from_dotlist(list(overrides))
    for override in overrides:
        key, _, value = override.partition('=')
        if value in ('', '~') or value.lower() == 'null' or value[0] in '\'"':
            continue
        if (item := _field_at(key, schema)) and (
            item.type in (str, str | None) or (TEXT_OR_LIST in item.metadata and value[0] != '[')
        ):
            OmegaConf.update(parsed, key, value)
    return parsed


def _field_at(key: str, schema: Any) -> Field[Any] | None:
    """The field that the schema has at this key with dots."""
    kind, item = schema, None
    for name in key.split('.'):
        if not (isinstance(kind, type) and is_dataclass(kind)):
            return None
        item = {one.name: one for one in fields(kind)}.get(name)
        kind = item.type if item else None
    return item


def _refuse_unknown(
    given: DictConfig, schema: type, where: str, prefix: str = '', *, whole: type | None = None
) -> None:
    """Unknown keys, before types: the message can name the nearest key of that level."""
    types = {item.name: item.type for item in fields(schema)}
    for key in given:
        name = str(key)
        if name not in types:
            raise InputError(f'{where}: unknown key `{prefix}{name}`: {hint(name, types, whole or schema)}')
        kind = types[name]
        is_text = kind in (str, str | None) and not OmegaConf.is_interpolation(given, name)
        if is_text and isinstance(given.get(key), bool):
            raise InputError(
                f'{where}: `{prefix}{name}` must be text, but YAML reads it as {given[key]}: put it in quotes.'
            )
        if isinstance(kind, type) and is_dataclass(kind):
            if not isinstance(given[key], DictConfig):
                raise InputError(
                    f'{where}: `{prefix}{name}` must be a mapping of keys, but got: {given[key]!r}.'
                )
            _refuse_unknown(given[key], kind, where, f'{prefix}{name}.', whole=whole or schema)
