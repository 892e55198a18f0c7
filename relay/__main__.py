"""``python -m relay``."""

from relay import cli

cli.main()
