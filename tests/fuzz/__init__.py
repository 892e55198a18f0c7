"""The APIs of relay and of the sandbox against what their own descriptions say. Read ``running.py``."""
