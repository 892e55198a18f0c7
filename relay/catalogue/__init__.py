"""The models that a generation API offers, and whether an input suits one of them before it costs.

Shared by the gateway and the sandbox. ``models.py`` is what is asked, ``opening.py`` says when it is
read, ``loading.py`` reads data files (``models.json`` here, and the operator's own), ``media.py`` knows
hosted URLs and data URIs, ``faults.py`` how a fault is told. Nothing here performs a request, whatever a
schema or an input refers to, and nothing but ``relay.domain`` is imported.
"""
