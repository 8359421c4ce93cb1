"""What surrounds the network: an epoch and memory of a training, how commands start, whether half precision trains.

    python benchmarks/whole_run.py epoch [--device cpu|cuda] [--iterations 20] [--dataset ID] [--json FILE]
    python benchmarks/whole_run.py startup [--pairs 40] [--json FILE]
    python benchmarks/whole_run.py memory [--batch 16] [--side 256] [--json FILE]
    python benchmarks/whole_run.py stability [--steps 200] [--json FILE]
    python benchmarks/whole_run.py stability --device cpu --precision bf16 --steps 10

Each is described in the module of its name: epoch.py, startup.py, training_memory.py, stability.py.
"""

import argparse
import json
from collections.abc import Sequence

import epoch
import stability
import startup
import training_memory
from machine import describe
from options import add_options, set_up, write_result

PARTS = {"epoch": epoch, "startup": startup, "memory": training_memory, "stability": stability}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="|".join(PARTS))
    for name, part in PARTS.items():
        command = commands.add_parser(name, help=part.__doc__.splitlines()[0])
        part.add_arguments(command)
        add_options(command)
        command.set_defaults(measure=part.measure)
    args = parser.parse_args(argv)
    device = set_up(args)
    result = {"machine": describe(device), **args.measure(args, device)}
    print(json.dumps(result, indent=1))
    write_result(args, result)
    if result.get("failed"):
        raise SystemExit(f"Failed: {', '.join(result['failed'])}")


if __name__ == "__main__":
    main()
