"""What the product costs, as a ratio that another machine can repeat. Read ``measuring.py`` first.

Each benchmark runs the real daemon in this process (the composition root, the database file with
``synchronous=FULL``, the real adapter and sender) and, in turn with it, a bare aiohttp loop that does
the same HTTP and nothing else. Peers are other processes on loopback. The ratio is CPU time of the
bare loop over CPU time of the product, all threads counted: 1.00 would mean that scheduling,
recording, signing and logging cost nothing.

Run-time dependencies only; every benchmark ends within a minute.
"""
