"""The figures beside their anchors: printed as tables, and written as a page."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from bench import choice, components, imports, scale
from bench.choice import Choice
from bench.components import Components
from bench.idle import Idle
from bench.imports import Import
from bench.memory import Cost
from bench.scale import Scale
from bench.start import Pairs
from bench.tables import Rows, facts, markdown, print_tables, spread, today

RESERVED = 25 + 100 + 25 + 40
"""MiB that KubeVirt reserves a machine: launcher monitor, launcher, virtlogd, and libvirt's daemon."""
TYPES = {"qemu": "TCG", "kvm": "KVM"}
GOAL_START, GOAL_MEMORY = 0.5, 40

PAGE = """# Performance

What users of a cluster get comes first. Each section names the command that made its figures, the day, and what was
simulated where anything was. The machine: {facts}.

## From POST to running

Standalone, by `python -m bench machines` on {day}. Seconds from the POST of a VirtualMachineInstance until a watch
says `Running`, against a bare `virsh create` of the same domain XML, taken in turns in one run. The floor is kind to
libvirt: its daemon runs already and knows the hypervisor, a container's root tree is copied already. Ours includes
admission, a durable store, placement, the Pod and its scheduling, the copy of the root tree, and a launcher with a
libvirt of its own. Goal: the floor and {goal_start} s.

{start}
[KubeVirt's own benchmark](https://github.com/kubevirt/kubevirt/blob/main/docs/perf-scale-benchmarks.md)
reports 15 to 28 s from creation to running, on other machines and with Kubernetes around it; it is quoted as an anchor
and was not measured here.

## Memory a machine, beside the hypervisor

Standalone, by `python -m bench machines` on {day}. MiB of proportional set size a machine: what belongs to it alone
(launcher, libvirt's private daemon and container controller), and what the standalone process grew by. QEMU's own
process and the guests' are not counted. Goal: at most {goal_memory} MiB. KubeVirt reserves {reserved} MiB a machine
for the same (25 + 100 + 25 + 40: launcher monitor, launcher, virtlogd, libvirt's daemon); that is what its scheduler
sets aside, not a measurement
([source](https://github.com/kubevirt/kubevirt/blob/main/pkg/hypervisor/kvm/hypervisorbackend.go)).

{memory}
## The standalone process, idle

By `python -m bench machines` on {day}. API server, scheduler, controllers and node agent in one process. CPU in
percent of one CPU.

{idle}"""

CHOICE = """## Choosing a driver

By `python -m bench choice` on {day}. A typical VM (two disks, an interface, cloud-init) judged against every
driver, by admission and by `explain`, which needs no cluster. The libraries alone: an interpreter that imports what
the command line is built on, and ends.

{choice}"""

IMPORTS = """## Bringing images in

By `python -m bench imports` on {day}. What fills DataVolumes and takes uploads, against the plain tool that does the
same work, taken in turns on the same file system. Ours also tells the format, refuses images that reach beyond
themselves, keeps to the claim's size, and puts the disk in place whole.

{imports}"""

COMPONENTS = """## The control plane, idle

By `python -m bench components` on {day}, all of it on one machine: {facts}. etcd and kube-apiserver are real, and so
are Polyvisor's processes, of which virt-controller and virt-operator have one that leads and one that stands by; they
run beside the API server with the rights of their service accounts, and **no kubelet runs them: its probes are
simulated**, at the chart's intervals. virt-handler asks every few seconds for a kubelet's device plugins, which it
would hear of once on a node. There is no machine. CPU time was counted over {seconds:.0f} s.

{components}"""

SCALE = """## A large cluster

By `python -m bench scale` on {day}, all of it on one machine: {facts}{note}. etcd, kube-apiserver, controller-manager,
scheduler, virt-controller (one replica, which leads) and virt-api are real, as processes of their own; of virt-api's
webhooks every creation is judged. kwok simulates the kubelets of {nodes} nodes. **The benchmark simulates the
nodes' agents**: for each machine it writes what the real agent writes (one status, two Events), made by the agent's
own functions, and starts nothing. The scheduler may make 500 calls a second (its default of 50
would be what is measured). Seconds are from each machine's POST until a watch says `Running`, with {at_once} POSTs
under way at a time, each over a connection of its own.

{goals}
KubeVirt's figures are those of [its own published benchmarks](https://github.com/kubevirt/kubevirt/blob/main/docs/perf-scale-benchmarks.md),
on other machines, with real guests; they are quoted as an anchor and were not measured here.

Requests to the API server a machine, by Polyvisor's parts (virt-controller, virt-api and the simulated agents)
and by everybody (the scheduler and kwok among them), as the processes' and the API server's own metrics count them:

{requests}
CPU time of each process, from the first POST until the last machine ran. It is what limits a machine that runs all of
it: with two CPUs, a second has room for two seconds of it.

{cpu}"""


@dataclass(frozen=True)
class Report:
    """All figures of one run."""

    facts: str
    starts: list[Pairs]
    costs: list[Cost]
    idle: list[Idle]

    def start_rows(self) -> Rows:
        """Return the table of starts."""
        rows = [["driver", "pairs", "virsh create", "POST to running", "difference", "goal"]]
        for pairs in self.starts:
            goal = "met" if pairs.difference <= GOAL_START else "missed"
            rows.append(
                [
                    f"{pairs.driver} ({TYPES.get(pairs.virt_type, pairs.virt_type)})",
                    str(len(pairs.ours)),
                    spread(pairs.floor),
                    spread(pairs.ours),
                    f"{pairs.difference:.2f}",
                    goal,
                ]
            )
        return rows

    def memory_rows(self) -> Rows:
        """Return the table of memory."""
        rows = [["driver", "machines", "own", "common process", "Polyvisor", "KubeVirt reserves", "goal"]]
        for cost in self.costs:
            goal = "met" if cost.total <= GOAL_MEMORY else "missed"
            figures = [f"{value:.1f}" for value in (cost.own, cost.common, cost.total)]
            rows.append([cost.driver, str(cost.count), *figures, str(RESERVED), goal])
        return rows

    def idle_rows(self) -> Rows:
        """Return the table of idleness."""
        rows = [["machines running", "RSS, MiB", "PSS, MiB", "CPU, %"]]
        return rows + [[str(i.machines), f"{i.rss:.0f}", f"{i.pss:.0f}", f"{i.cpu:.2f}"] for i in self.idle]

    def show(self) -> None:
        """Print the tables."""
        console = Console(highlight=False)
        console.print(self.facts)
        print_tables(self.start_rows(), self.memory_rows(), self.idle_rows())

    def page(self) -> str:
        """Return docs/performance.md."""
        return PAGE.format(
            day=today(),
            facts=self.facts,
            goal_start=GOAL_START,
            goal_memory=GOAL_MEMORY,
            reserved=RESERVED,
            start=markdown(self.start_rows()),
            memory=markdown(self.memory_rows()),
            idle=markdown(self.idle_rows()),
        )


def choice_section(found: Choice) -> str:
    """Return the section about choosing a driver."""
    return CHOICE.format(day=today(), choice=markdown(choice.rows(found)))


def components_section(found: Components) -> str:
    """Return the section about the idle control plane."""
    table = markdown(components.rows(found))
    return COMPONENTS.format(day=today(), facts=facts(), seconds=found.seconds, components=table)


def imports_section(found: list[Import]) -> str:
    """Return the section about bringing images in."""
    return IMPORTS.format(day=today(), imports=markdown(imports.rows(found)))


def scale_section(found: Scale, note: str) -> str:
    """Return the section about a large cluster."""
    return SCALE.format(
        day=today(),
        facts=facts(),
        note=f"; {note}" if note else "",
        nodes=found.nodes,
        at_once=scale.AT_ONCE,
        goals=markdown(scale.rows(found)),
        requests=markdown(scale.request_rows(found)),
        cpu=markdown(scale.cpu_rows(found)),
    )
