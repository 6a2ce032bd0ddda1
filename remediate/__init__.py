"""Diagnoses in, outcomes out: catalogue, planner, gates, durable runs, verification, undo."""
