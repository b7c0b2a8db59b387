"""Saved models behind an HTTP server: OpenAI's routes, and those of the other tasks."""
