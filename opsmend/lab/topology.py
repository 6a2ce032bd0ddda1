"""The shop: who calls whom, with which patience, and what the customers do."""

from __future__ import annotations

from typing import Final

SERVICES: Final = ("gateway", "frontend", "catalog", "cart", "orders", "inventory", "payments", "bank")
"""Processes of the shop, callers first. `bank` belongs to somebody else."""
EXTERNAL: Final = ("bank",)
BACKENDS: Final = ("postgres", "redis")
REPAIRABLE: Final = tuple(s for s in SERVICES if s not in EXTERNAL) + BACKENDS

EDGES: Final = (
    ("gateway", "frontend"), ("frontend", "catalog"), ("frontend", "cart"), ("frontend", "orders"),
    ("catalog", "postgres"), ("catalog", "redis"), ("cart", "redis"),
    ("orders", "cart"), ("orders", "inventory"), ("orders", "payments"), ("orders", "postgres"),
    ("inventory", "postgres"), ("payments", "bank"),
)

LINKS: Final = (("inventory", "postgres"), ("catalog", "redis"))
"""Edges whose network can be disturbed: their connections go through the relay (`links.py`)."""

TIMEOUT_SECONDS: Final = {"gateway": 2.6, "frontend": 2.2, "orders": 1.2, "payments": 0.8}
"""How long a caller waits for one call. Shorter towards the leaves, so that the innermost gives up first."""
USES_POSTGRES: Final = ("catalog", "orders", "inventory")
USES_REDIS: Final = ("catalog", "cart")
POOL_MAX: Final = 10
STATEMENT_TIMEOUT_MS: Final = 700
ACQUIRE_TIMEOUT_SECONDS: Final = 0.5
REDIS_TIMEOUT_SECONDS: Final = 0.5
REDIS_MAX_BYTES: Final = 24 * 1024 * 1024
MEMORY_LIMIT_BYTES: Final = 190 * 1024 * 1024
"""Beyond this resident size the supervisor kills a shop process, as a container runtime would."""

MIX: Final = (("product", 0.45), ("home", 0.23), ("cart", 0.18), ("checkout", 0.14))
"""Share of each request kind in the load."""
PRODUCTS: Final = 200
USERS: Final = 400
