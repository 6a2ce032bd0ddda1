"""Small, closed questions to language models: pick one action out of a short list, or none.

This package imports nothing else of opsmend. Start with `llm.types` and `llm.client`.
"""
