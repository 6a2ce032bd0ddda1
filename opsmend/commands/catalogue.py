"""Configuration, catalogue and parameters for commands that look at actions and runbooks without a service."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from opsmend.config import Settings
    from remediate.actions.base import Action
    from remediate.catalogue import Catalogue

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="opsmend.toml; none: the defaults.")]
ActionsDir = Annotated[Path | None, typer.Option("--dir", help="Your own actions, instead of [repair] actions_dir.")]


def catalogue_of(settings: Settings, directory: Path | None = None) -> Catalogue:
    """The built-in actions and the user's own. Raises UserActionError with path, line and nearest name."""
    from remediate.catalogue import Catalogue

    where = directory or settings.repair.actions_dir
    if where is None:
        return Catalogue()
    from remediate.actions.user import load_user_actions

    return Catalogue(load_user_actions(where, Catalogue()))


def named(catalogue: Catalogue, name: str) -> Action:
    """Raises ConfigError with the nearest name."""
    from opsmend.config import ConfigError

    action = catalogue.get(name)
    if action is None:
        near = difflib.get_close_matches(name, [a.name for a in catalogue], n=1, cutoff=0.0)
        raise ConfigError(f"no action '{name}'; did you mean '{near[0]}'?")
    return action


def params_for(action: Action, service: str) -> dict[str, Any]:
    """The parameters as a plan would have them, for a service that shows what the action is for."""
    from remediate.actions.base import Target

    return action.parameters(Target(service, tuple(sorted(action.applies_when)), incident_id="00000000", title="a trial"))


def describe(action: Action, params: dict[str, Any]) -> str:
    """What would be sent or started: for the user's own actions to the letter, else the parameters."""
    from remediate.actions.user_base import OwnAction

    if isinstance(action, OwnAction):
        return action.describe(params)
    return f"{action.name} {' '.join(f'{k}={v}' for k, v in sorted(params.items()))}"


def undo_of(action: Action) -> str:
    other = getattr(action, "undo_action", None)
    return "can't be undone" if not action.is_reversible else f"undone by {other.name}" if other else "can be undone"


def may(settings: Settings, action: Action) -> list[tuple[str, str]]:
    """(service, how): what the allow-list and the mode let this action do, as the gates will see it."""
    from opsmend.compose import gate_config
    from remediate.gates import allowed_mode

    config = gate_config(settings)
    found = []
    for service in dict.fromkeys(rule.service for rule in settings.repair.allow):
        mode = allowed_mode(config, service, action.name)
        if mode is None:
            continue
        if "observe" in (mode, settings.repair.mode):
            how = "is proposed, never runs (observe)"
        elif mode == settings.repair.mode == "auto":
            how = "alone"
        else:
            how = "with a person's approval"
        found.append((service, how))
    return found
