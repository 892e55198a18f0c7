"""A stand-in for the MindVideo API that runs on one machine, costs nothing and can hurry.

It is developed and tested against, so it follows the documentation to the letter; where that is
silent, the choice is stated in ``docs/sandbox.md``. Read ``app.py`` for the routes, ``rules.py``
for what becomes of a task, ``injection.py`` for faults on demand. Nothing of the
daemon is imported here, and the daemon never imports this package.
"""
