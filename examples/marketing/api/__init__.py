"""The marketing system over HTTP: `python -m examples.marketing.api`."""
