"""``python -m bench polls | pipeline | deliveries | fairness | idle | lists | register``."""

from __future__ import annotations

import sys

from bench import deliveries, fairness, idle, lists, pipeline, polls, register

BENCHMARKS = {
    "polls": polls.main,
    "pipeline": pipeline.main,
    "deliveries": deliveries.main,
    "fairness": fairness.main,
    "idle": idle.main,
    "lists": lists.main,
    "register": register.main,
}


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named; 2 where none is."""
    if len(arguments) != 1 or arguments[0] not in BENCHMARKS:
        print(f"usage: python -m bench {{{','.join(BENCHMARKS)}}}", file=sys.stderr)
        return 2
    BENCHMARKS[arguments[0]]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
