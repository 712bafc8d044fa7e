import json
from typing import Any

import pytest

from polyvisor.api import KubeVirtConfiguration, Memory, VirtualMachineInstanceSpec
from polyvisor.drivers.base import Support, Verdict
from polyvisor.placement import Placement, place
from tests.drivers_for_tests import FakeDriver, no, node

ALPHA = FakeDriver("alpha", aliases={"alpha-soft": "soft"})
BETA = FakeDriver("beta", ("box",), frozenset(), {"firmware.serial": no("Beta has no serial")})
CPU_LABELS = (("model", "Nehalem"), ("feature", "aes"), ("feature", "vmx"))
BOTH = [node("n1", "alpha", "alpha.fast", "alpha.soft"), node("n2", "beta", "beta.box")]


def spec(hypervisor: dict[str, Any] | None = None, **more: Any) -> VirtualMachineInstanceSpec:
    body: dict[str, Any] = {"domain": {"devices": {}, "firmware": more.pop("firmware", {})}} | more
    if hypervisor:
        body["hypervisor"] = hypervisor
    return VirtualMachineInstanceSpec.model_validate(body)


def config(*names: str, emulation: bool = False) -> KubeVirtConfiguration:
    body: dict[str, Any] = {"developerConfiguration": {"useEmulation": emulation}}
    if names:
        body["hypervisors"] = [{"name": n, "launcherImage": f"image/{n}"} for n in names]
    return KubeVirtConfiguration.model_validate(body)


def verdicts(placement: Placement) -> dict[str, str]:
    return {c.driver: str(c.verdict) for c in placement.candidates}


CASES: list[tuple[str, Any, Any, Any, str, str, dict[str, str]]] = [
    ("registry order", spec(), config(), BOTH, "alpha", "fast", {"alpha": "Chosen", "beta": "Eligible"}),
    ("configured order", spec(), config("beta", "alpha"), BOTH, "beta", "box", {"beta": "Chosen", "alpha": "Eligible"}),
    (
        "anyOf order",
        spec({"anyOf": ["beta", "alpha"]}),
        config(),
        BOTH,
        "beta",
        "box",
        {"beta": "Chosen", "alpha": "Eligible"},
    ),
    ("exactly one", spec({"driver": "beta"}), config(), BOTH, "beta", "box", {"beta": "Chosen"}),
    ("not enabled", spec({"driver": "beta"}), config("alpha"), BOTH, "", "", {"beta": "NotEnabled"}),
    (
        "not enabled is passed over",
        spec(),
        config("beta"),
        BOTH,
        "beta",
        "box",
        {"beta": "Chosen", "alpha": "NotEnabled"},
    ),
    ("unknown driver", spec({"driver": "gamma"}), config(), BOTH, "", "", {"gamma": "NotEnabled"}),
    ("no node", spec(), config(), BOTH[1:], "beta", "box", {"alpha": "NoNode", "beta": "Chosen"}),
    ("no nodes at all", spec(), config(), [], "", "", {"alpha": "NoNode", "beta": "NoNode"}),
    (
        "virt type asked for",
        spec({"driver": "alpha", "virtType": "soft"}),
        config(emulation=True),
        BOTH,
        "alpha",
        "soft",
        {"alpha": "Chosen"},
    ),
    (
        "virt type unknown",
        spec({"driver": "alpha", "virtType": "odd"}),
        config(),
        BOTH,
        "",
        "",
        {"alpha": "Unsupported"},
    ),
    (
        "emulation held back",
        spec(),
        config(),
        [node("n", "alpha", "alpha.soft")],
        "",
        "",
        {"alpha": "NoNode", "beta": "NoNode"},
    ),
    (
        "emulation allowed",
        spec(),
        config(emulation=True),
        [node("n", "alpha", "alpha.soft")],
        "alpha",
        "soft",
        {"alpha": "Chosen", "beta": "NoNode"},
    ),
    (
        "alias limits the virt type",
        spec(),
        config("alpha-soft", emulation=True),
        BOTH,
        "alpha",
        "soft",
        {"alpha": "Chosen", "beta": "NotEnabled"},
    ),
    (
        "feature unsupported",
        spec({"driver": "beta"}, firmware={"serial": "x"}),
        config(),
        BOTH,
        "",
        "",
        {"beta": "Unsupported"},
    ),
    (
        "node selector",
        spec(nodeSelector={"zone": "b"}),
        config(),
        [BOTH[0], node("n3", "beta", "beta.box", zone="b")],
        "beta",
        "box",
        {"alpha": "NoNode", "beta": "Chosen"},
    ),
]


@pytest.mark.parametrize(("title", "wanted", "configured", "nodes", "driver", "virt_type", "said"), CASES)
def test_choice(
    title: str, wanted: Any, configured: Any, nodes: Any, driver: str, virt_type: str, said: dict[str, str]
) -> None:
    placement = place(wanted, configured, nodes, [ALPHA, BETA])
    assert (placement.driver.name if placement.driver else "") == driver
    assert placement.virt_type == virt_type
    assert verdicts(placement) == said
    for candidate in placement.candidates:
        assert bool(candidate.reasons) == (candidate.verdict not in ("Chosen", "Eligible")), candidate


def test_a_rejection_names_field_feature_and_reason() -> None:
    placement = place(spec({"driver": "beta"}, firmware={"serial": "x"}), config(), BOTH, [ALPHA, BETA])
    assert placement.to_status() == {
        "candidates": [
            {
                "driver": "beta",
                "verdict": "Unsupported",
                "reasons": [
                    {
                        "field": "spec.domain.firmware.serial",
                        "feature": "firmware.serial",
                        "message": "Beta has no serial",
                    },
                ],
            }
        ]
    }
    assert (
        placement.explain() == "no driver can run this machine: beta: spec.domain.firmware.serial: Beta has no serial"
    )


def test_emulation_that_is_not_allowed_is_said_so() -> None:
    placement = place(spec({"driver": "alpha"}), config(), [node("n", "alpha", "alpha.soft")], [ALPHA])
    assert "software emulation" in placement.explain()
    assert "useEmulation" in placement.explain()


def test_what_the_table_does_not_know_is_refused() -> None:
    driver = FakeDriver("alpha")
    del driver._table["firmware.serial"]  # type: ignore[attr-defined]
    placement = place(spec(firmware={"serial": "x"}), config(), BOTH, [driver])
    assert verdicts(placement) == {"alpha": "Unsupported"}


def test_the_chosen_driver_becomes_node_affinity_and_image() -> None:
    placement = place(spec(), config("alpha"), BOTH, [ALPHA, BETA])
    assert placement.launcher_image == "image/alpha"
    assert placement.node_affinity == [
        {"key": "hypervisor.kubevirt.io/alpha", "operator": "In", "values": ["true"]},
        {"key": "hypervisor.kubevirt.io/alpha.fast", "operator": "In", "values": ["true"]},
        {"key": "hypervisor.kubevirt.io/endpoint", "operator": "DoesNotExist"},
    ]


CONDITIONAL = Support(
    Verdict.CONDITIONAL, source="test", reason="needs a table", node_fact=True, architectures=("x86_64",)
)


def test_a_conditional_feature_needs_a_node_that_shows_it() -> None:
    driver = FakeDriver("alpha", table={"firmware.serial": CONDITIONAL})
    without = place(spec(firmware={"serial": "x"}), config(), BOTH, [driver])
    assert verdicts(without) == {"alpha": "NoNode"}
    assert without.candidates[0].reasons[0].feature == "firmware.serial"
    shows = node("n9", "alpha", "alpha.fast", "feature.hypervisor.kubevirt.io/alpha.firmware.serial")
    with_it = place(spec(firmware={"serial": "x"}), config(), [*BOTH, shows], [driver])
    assert [e["key"] for e in with_it.node_affinity] == [
        "feature.hypervisor.kubevirt.io/alpha.firmware.serial",
        "hypervisor.kubevirt.io/alpha",
        "hypervisor.kubevirt.io/alpha.fast",
        "kubernetes.io/arch",
        "hypervisor.kubevirt.io/endpoint",
    ]


def test_all_labels_have_to_be_on_one_node() -> None:
    driver = FakeDriver("alpha", table={"firmware.serial": CONDITIONAL})
    apart = [
        node("a", "alpha", "alpha.fast"),
        node("b", "alpha", "feature.hypervisor.kubevirt.io/alpha.firmware.serial"),
    ]
    assert place(spec(firmware={"serial": "x"}), config(), apart, [driver]).driver is None


def test_conditions_on_the_architecture_add_up() -> None:
    both = Support(Verdict.CONDITIONAL, source="test", reason="r", architectures=("x86_64", "aarch64"))
    arm = Support(Verdict.CONDITIONAL, source="test", reason="r", architectures=("aarch64", "s390x"))
    driver = FakeDriver("alpha", table={"firmware.serial": both, "memory.guest": arm})
    wanted = spec(firmware={"serial": "x"})
    wanted.domain.memory = Memory(guest="1Mi")
    assert place(wanted, config(), BOTH, [driver]).driver is None
    arm_node = [node("n", "alpha", "alpha.fast", **{"kubernetes.io/arch": "arm64"})]
    assert place(wanted, config(), arm_node, [driver]).labels["kubernetes.io/arch"] == ("arm64",)


def test_a_condition_on_the_virt_type_narrows_it() -> None:
    soft_only = Support(Verdict.CONDITIONAL, source="test", reason="soft only", virt_types=("soft",))
    driver = FakeDriver("alpha", table={"firmware.serial": soft_only})
    assert place(spec(firmware={"serial": "x"}), config(emulation=True), BOTH, [driver]).virt_type == "soft"
    assert place(spec(firmware={"serial": "x"}), config(), BOTH, [driver]).driver is None


def test_an_unschedulable_driver_gives_way() -> None:
    placement = place(spec(), config(), BOTH, [ALPHA, BETA], unschedulable={"alpha": "no room"})
    assert verdicts(placement) == {"alpha": "Unschedulable", "beta": "Chosen"}
    assert placement.candidates[0].reasons[0].message == "no room"


def test_placing_changes_nothing_and_repeats_itself() -> None:
    wanted = spec({"anyOf": ["beta", "alpha"]})
    assert place(wanted, config(), BOTH, [ALPHA, BETA]) == place(wanted, config(), BOTH, [ALPHA, BETA])


def test_an_architecture_that_is_asked_for_becomes_a_label_or_the_reason() -> None:
    wanted = spec(architecture="arm64")
    without = place(wanted, config(), BOTH, [ALPHA])
    (reason,) = without.candidates[0].reasons
    assert (reason.field, reason.message) == (
        "spec.architecture",
        "no arm64 node offers Alpha (label kubernetes.io/arch) (excludes the only node)",
    )
    arm = node("n", "alpha", "alpha.fast", **{"kubernetes.io/arch": "arm64"})
    assert place(wanted, config(), [*BOTH, arm], [ALPHA]).labels["kubernetes.io/arch"] == ("arm64",)


MODEL, AES, VMX = (f"cpu-{kind}.node.kubevirt.io/{name}" for kind, name in CPU_LABELS)
BY_CPU = Support(Verdict.CONDITIONAL, source="test", reason="libvirt tells", node_cpu=True)


def test_a_cpu_that_is_named_needs_a_node_that_shows_it() -> None:
    driver = FakeDriver("alpha", table={"cpu.model.named": BY_CPU, "cpu.features": BY_CPU})
    features = [{"name": "aes"}, {"name": "vmx", "policy": "forbid"}, {"name": "avx", "policy": "optional"}]
    wanted = spec(domain={"devices": {}, "cpu": {"model": "Nehalem", "features": features}})
    without = place(wanted, config(), BOTH, [driver]).candidates[0]
    assert [(each.field, each.feature) for each in without.reasons] == [
        ("spec.domain.cpu.model", "cpu.model.named"),
        *((f"spec.domain.cpu.features[{index}].name", "cpu.features") for index in range(3)),
    ]
    assert f"no node shows Named CPU model for Alpha (label {MODEL}): libvirt tells" in str(without.reasons[0])
    both = node("both", "alpha", "alpha.fast", MODEL, AES, VMX)
    assert place(wanted, config(), [both], [driver]).driver is None
    good = node("good", "alpha", "alpha.fast", MODEL, AES)
    placement = place(wanted, config(), [both, good], [driver])
    assert {"key": MODEL, "operator": "In", "values": ["true"]} in placement.node_affinity
    assert {"key": AES, "operator": "In", "values": ["true"]} in placement.node_affinity
    assert {"key": VMX, "operator": "DoesNotExist"} in placement.node_affinity
    assert not [each for each in placement.node_affinity if "avx" in each["key"]]


@pytest.mark.parametrize("model", ["host-model", "host-passthrough"])
def test_a_cpu_of_the_host_asks_for_no_model(model: str) -> None:
    wanted = spec(domain={"devices": {}, "cpu": {"model": model}})
    placement = place(wanted, config(), BOTH, [FakeDriver("alpha", table={"cpu.model.named": BY_CPU})])
    assert not [label for label in placement.labels if label.startswith("cpu-")]


def reported(name: str, reason: Any, available: bool = False) -> Any:
    made = node(name)
    report = [{"name": "alpha", "available": available, "reason": reason}]
    made["metadata"].setdefault("annotations", {})["hypervisor.kubevirt.io/drivers"] = json.dumps(report)
    return made


@pytest.mark.parametrize(
    ("nodes", "ending"),
    [
        ([node("n1")], "(label hypervisor.kubevirt.io/alpha)"),
        ([reported("n1", "no engine; apt-get install engine")], "alpha): no engine; apt-get install engine"),
        ([reported("n1", "no engine"), reported("n2", "no engine")], "alpha): no engine"),
        ([reported("n1", "no engine"), reported("n2", "no fuel")], "alpha): no engine (and 1 other reasons)"),
        ([reported("n1", "a\nb")], "alpha): a b"),
        ([reported("n1", "x" * 9000)], "alpha): " + "x" * 500),
        ([reported("n1", "only slow", available=True)], "(label hypervisor.kubevirt.io/alpha)"),
    ],
)
def test_a_driver_that_no_node_has_comes_with_the_nodes_reason(nodes: Any, ending: str) -> None:
    found = place(spec({"driver": "alpha"}), config(), nodes, [ALPHA, BETA]).explain().rpartition(" (excludes ")[0]
    assert found.endswith(ending)


@pytest.mark.parametrize("text", ["", "no", "{}", "[1]", '[{"name": "alpha"}]', '[{"name": [], "available": 0}]'])
def test_a_report_that_makes_no_sense_is_passed_over(text: str) -> None:
    strange = node("n1")
    strange["metadata"].setdefault("annotations", {})["hypervisor.kubevirt.io/drivers"] = text
    found = place(spec({"driver": "alpha"}), config(), [strange], [ALPHA, BETA]).explain().rpartition(" (excludes ")[0]
    assert found.endswith("(label hypervisor.kubevirt.io/alpha)")
