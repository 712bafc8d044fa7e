"""``make bench``: measure, print, and write docs/performance.md; or one part of it, ``python -m bench scale``."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench import choice, cluster, components, idle, imports, memory, page, report, scale, start
from bench.home import delete_and_wait, home, machine, post_and_wait
from bench.report import Report
from bench.tables import facts, print_tables
from polyvisor.kube import KubeClient

DRIVERS = ("qemu", "lxc")
TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs" / "performance.md"
OWN, OTHER = TOP / "build" / "bench-cluster.json", TOP / "build" / "bench-beside.json"


async def measure(pairs: int, seconds: float) -> Report:
    """Measure everything, in an installation of its own."""
    with home() as one:
        quiet = [idle.measure(one.pid, 0, seconds)]
        pairs_of = [await start.measure(one, driver, pairs) for driver in DRIVERS]
        costs = [await memory.measure(one, driver, count) for driver in DRIVERS for count in (1, 5)]
        async with one.client() as client:
            for driver in DRIVERS:
                await post_and_wait(client, machine(f"idle-{driver}", driver))
            quiet.append(idle.measure(one.pid, len(DRIVERS), seconds))
            for driver in DRIVERS:
                await delete_and_wait(client, f"idle-{driver}")
    return Report(facts(), pairs_of, costs, quiet)


def machines(given: argparse.Namespace) -> str:
    """Measure machines of one installation."""
    found = asyncio.run(measure(given.pairs, given.idle))
    found.show()
    return found.page()


def choosing(given: argparse.Namespace) -> str:
    """Measure how fast a driver is chosen."""
    found = choice.measure(given.pairs)
    print_tables(choice.rows(found))
    return report.choice_section(found)


def large(given: argparse.Namespace) -> str:
    """Measure a large cluster."""
    found = scale.measure(given.machines, given.most)
    print_tables(scale.rows(found), scale.request_rows(found), scale.cpu_rows(found))
    return report.scale_section(found, given.note)


def control_plane(given: argparse.Namespace) -> str:
    """Measure the idle processes of a cluster."""
    found = components.measure(given.watch)
    print_tables(components.rows(found))
    return report.components_section(found)


def importing(given: argparse.Namespace) -> str:
    """Measure how fast images come in."""
    found = imports.measure(given.pairs)
    print_tables(imports.rows(found))
    return report.imports_section(found)


def real_cluster(given: argparse.Namespace) -> str:
    """Measure machines in launcher Pods, and set them beside the figures of another system where there are some."""
    amounts = {"starts": given.pairs, "writes": 5, "burst": 20, "idle": given.watch}
    found = cluster.measure_own(given.steps, amounts, given.results or OWN)
    others = [cluster.Figures.read(path) for path in given.beside]
    cluster.show([found, *others])
    return cluster.section([found, *others], given.note)


PARTS = {
    "cluster": real_cluster,
    "machines": machines,
    "choice": choosing,
    "imports": importing,
    "scale": large,
    "components": control_plane,
}


async def measure_another(given: argparse.Namespace) -> None:
    """Measure the system of a cluster that is handed to us, and keep its figures."""
    amounts = {"starts": given.pairs, "writes": 5, "burst": 20, "idle": given.watch}
    async with KubeClient.from_kubeconfig(given.kubeconfig) as client:
        kept = cluster.Kept(given.results or OTHER, given.system)
        await cluster.measure(client, kept, given.namespace, given.steps, amounts, given.audit_log)
    cluster.show([kept.figures])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--pairs", type=int, default=10, help="pairs of starts a driver (default 10)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of watching an idle process (default 20)")
    parser.add_argument("--watch", type=float, default=components.PERIOD, help="seconds of watching a control plane")
    parser.add_argument("--machines", type=int, default=1000, help="machines made at once in a large cluster")
    parser.add_argument("--most", type=int, default=5000, help="machines for virt-controller to remember")
    parser.add_argument("--note", default="", help="what a reader of the large cluster's figures should know")
    parser.add_argument("--steps", nargs="*", default=cluster.STEPS, help=f"of cluster: {', '.join(cluster.STEPS)}")
    parser.add_argument("--results", type=Path, help="where a cluster's figures are kept; steps not asked for stay")
    parser.add_argument("--beside", nargs="*", type=Path, default=[], help="figures of other systems, by --kubeconfig")
    other = parser.add_argument_group("another system, in a cluster whose only node is this machine")
    other.add_argument("--kubeconfig", type=Path, help="measure only it, and keep its figures for --beside")
    other.add_argument("--system", default="KubeVirt", help="its name in tables (default KubeVirt)")
    other.add_argument("--namespace", default="kubevirt", help="where its Pods are (default kubevirt)")
    other.add_argument("--audit-log", type=Path, help="the audit log of its API server; without it writes are not told")
    parser.add_argument("--print-only", action="store_true", help="leave docs/performance.md as it is")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"{', '.join(unknown)}: there are {', '.join(PARTS)}")
    if given.kubeconfig:
        asyncio.run(measure_another(given))
        return
    for part in given.parts or PARTS:
        text = PARTS[part](given)
        if not given.print_only:
            PAGE.write_text(page.put(PAGE.read_text(), text))


if __name__ == "__main__":
    main()
