"""relay watches asynchronous generation tasks and tells chat, mail or a webhook when they end."""

__version__ = "0.1.0"
