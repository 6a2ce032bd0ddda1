"""Where tuned weights of the root-cause ranker are, and whether they may be used."""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from rootcause.tune_files import fingerprint

log = structlog.get_logger()


def weights_dir(data_dir: Path) -> Path:
    """Where tuned weights of a service are. Deleting it is the way back to the shipped ones."""
    return data_dir / "models" / "rootcause"


def usable_weights(directory: Path) -> str:
    """The directory where its weights may be used, else "": none there, or made from others than the shipped ones."""
    try:
        card = json.loads((directory / "rootcause.json").read_text())
        if card["base_fingerprint"] == fingerprint() and (directory / "rootcause.safetensors").is_file():
            return str(directory)
        why = "they were tuned from weights that are not shipped any more: tune again"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = str(error)
    log.warning("rootcause.weights_not_used", directory=str(directory), reason=why)
    return ""
