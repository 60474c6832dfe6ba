"""All parts of the benchmarks, one after the other: `make bench`.

python -m benchmarks        ROWS= GB= REPEAT= ONLY="pipeline,queries" ONLY="pipeline:landing day" ONLY="clean" PEERS=1

`ONLY` names parts, cases of a part behind a colon, or cases of loading. The figures decide nothing: the exit code is 0
unless a part could not be measured.
"""

import os
import subprocess
import sys

PARTS = ("ingestion", "pipeline", "queries", "backup", "peers")
_ON = ("1", "true", "yes")


def chosen_parts(only: str, *, with_peers: bool) -> dict[str, str]:
    """The parts to run, each with the cases of it that `only` names: empty for all of them."""
    if not only:
        return {part: "" for part in PARTS if with_peers or part != "peers"}
    parts: dict[str, str] = {}
    for name in filter(None, map(str.strip, only.split(","))):
        part, _, case = name.partition(":") if name.partition(":")[0] in PARTS else ("ingestion", "", name)
        parts[part] = ",".join(filter(None, (parts.get(part, ""), case)))
    return parts


def main() -> int:
    """Run the chosen parts, each in a process of its own; returns 1 when one could not be measured."""
    with_peers = os.environ.get("PEERS", "") in _ON
    failed = []
    for part, cases in chosen_parts(os.environ.get("ONLY", ""), with_peers=with_peers).items():
        print(f"\n## {part}\n", flush=True)
        environ = {name: value for name, value in os.environ.items() if name != "ONLY"}
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{part}"],
            env=environ | ({"ONLY": cases} if cases else {}),
            check=False,
        )
        if done.returncode:
            failed.append(part)
    if not with_peers:
        print("\nADBC, dlt and pandas were left out; `make bench PEERS=1` installs and measures them.")
    if failed:
        print(f"bench: not measured: {', '.join(failed)}; the reason stands above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
