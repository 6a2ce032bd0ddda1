"""Which `OPSMEND_*` variables mean something. A typo in one is refused like a typo in the file.

`OPSMEND_<SECTION>__<KEY>` overrides that key; sections may be nested. Secrets are named by `*_env` keys; a name that
begins with OPSMEND_ is accepted where the configuration names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

PREFIX = "OPSMEND_"
OUR_OWN = frozenset({"OPSMEND_URL", "OPSMEND_TOKEN", "OPSMEND_QUIET", "OPSMEND_KEY"})
"""For the command line, and what a `command` action gets."""
_OUR_PREFIXES = ("OPSMEND_LAB_", "OPSMEND_CHAOS_", "OPSMEND_TEST_")


def variables(model: type[BaseModel], prefix: str = PREFIX) -> list[str]:
    """Every variable that overrides a key of `model`, sections (as JSON) included."""
    from opsmend.config_errors import model_in

    found = []
    for name, field in model.model_fields.items():
        variable = f"{prefix}{(field.alias or name).upper()}"
        found.append(variable)
        inner = model_in(field.annotation)
        if inner is not None and "list" not in str(field.annotation):
            found += variables(inner, f"{variable}__")
    return found


def unknown(environment: Iterable[str], document: Mapping[str, Any], model: type[BaseModel]) -> list[str]:
    """One sentence per variable that overrides nothing."""
    known = variables(model)
    free = {v.upper() for v in known if "dict" in str(_field_of(model, v))}
    named = _named(document)
    problems = []
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in OUR_OWN or upper.startswith(_OUR_PREFIXES) or name in named:
            continue
        if upper in known or any(upper.startswith(f"{f}__") for f in free):
            continue
        near = difflib.get_close_matches(upper, [*known, *OUR_OWN], n=1, cutoff=0.0)
        problems.append(f"environment: {name}: no key of opsmend.toml; did you mean '{near[0]}'? (Names that begin "
                        f"with {PREFIX} are opsmend's own.)")
    return problems


def _field_of(model: type[BaseModel], variable: str) -> object:
    """The annotation of a top-level variable; None for nested ones."""
    name = variable.removeprefix(PREFIX).lower()
    field = model.model_fields.get(name)
    return field.annotation if field is not None else None


def _named(document: object) -> set[str]:
    """The variables that the file's `*_env` keys name."""
    if isinstance(document, Mapping):
        own = {v for k, v in document.items() if str(k).endswith("_env") and isinstance(v, str)}
        return own.union(*(_named(v) for v in document.values()))
    if isinstance(document, list):
        return set().union(*(_named(v) for v in document))
    return set()
