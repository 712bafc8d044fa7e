"""The questions that every driver must answer well, as a class of tests: derive from it and name the driver.

    from polyvisor.testing import DriverKit

    class TestMyDriver(DriverKit):
        driver = MyDriver()

All that is asked follows from the driver's own description (its table, root kind, virt types), never from its name.
Nothing needs the hypervisor: what a real guest shows is for the tests of one driver, with ``bench``.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from lxml import etree

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.api.resources import VMIS
from polyvisor.domain import domain_name, domain_uuid, render
from polyvisor.drivers import DriverRegistry, contract_flaws, is_own, registry
from polyvisor.drivers.answers import link
from polyvisor.drivers.base import MIB, Driver, Endpoint, Place, ProbeResult, Support, Verdict
from polyvisor.drivers.features import BY_ID, asked
from polyvisor.drivers.limits import COUNTABLES
from polyvisor.drivers.verdict import answer_of, unsupported
from polyvisor.launcher.plan import read_plan
from polyvisor.testing import machines
from polyvisor.testing.bare import is_really_bare, probe_nowhere
from polyvisor.testing.examples import IDS, example, has
from polyvisor.testing.machines import Case, askable, instance, unaskable
from polyvisor.testing.schema import flaws, newer

PROBE_SECONDS = 0.2
SECRET = "pa55word-of-the-endpoint"
MODES = ("default", "acpi", "agent", "initctl")
_SIGNAL = re.compile(r"signal:\d+(,\d+)*")


@cache
def _corpus(driver: Driver) -> dict[str, Case]:
    return {case.id: case for case in machines.corpus(driver)}


def refused(driver: Driver) -> list[str]:
    """Return the features that a manifest can ask for and the driver lacks, or does not know."""
    return [id_ for id_ in IDS if not has(driver, id_)]


class DriverKit:
    """The tests; a subclass whose name begins with ``Test`` gives the driver."""

    driver: ClassVar[Driver]
    needs_a_host: ClassVar[bool] = True
    """Whether the driver needs more than libvirt's library; hardly any does not."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Make a test of each machine of the corpus and of each feature that is refused."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", [pytest.param(c, id=c.id) for c in _corpus(cls.driver).values()])
        if "lacking" in metafunc.fixturenames:
            metafunc.parametrize("lacking", refused(cls.driver))

    # -- the table -----------------------------------------------------------------------------------------------------

    def test_keeps_the_contract(self) -> None:
        """A driver that breaks it would be left out."""
        assert contract_flaws(self.driver, self.driver.name) == []

    def test_table_answers_every_feature_and_no_other(self) -> None:
        """The catalogue is the list of questions; what a driver of another package leaves out is unknown."""
        assert set(self.driver.features) <= set(BY_ID)
        if is_own(self.driver):
            assert set(self.driver.features) == set(BY_ID)

    def test_every_answer_says_where_it_is_from(self) -> None:
        """A source is a place in libvirt's source or a web address; a refusal has a reason in the user's words."""
        for id_, support in self.driver.features.items():
            assert link(support.source), f"{id_}: {support.source!r} leads nowhere"
            assert support.reason or support.verdict is Verdict.SUPPORTED, f"{id_}: no reason is given"
            assert support.reason == support.reason.strip(" .\n"), f"{id_}: the reason stands in a sentence, undotted"

    def test_every_condition_can_be_met(self) -> None:
        """A conditional answer names a condition that some node may fulfil, and no other answer has one."""
        for id_, support in self.driver.features.items():
            conditions = _conditions(support)
            if support.verdict is Verdict.CONDITIONAL:
                assert conditions, f"{id_}: under which condition?"
            else:
                assert not conditions, f"{id_}: {support.verdict} has conditions, {conditions}"
            assert set(support.virt_types) <= set(self.driver.virt_types), f"{id_}: {support.virt_types}"
            for version in (support.min_libvirt, support.min_hypervisor):
                assert re.fullmatch(r"(\d+(\.\d+)*)?", version), f"{id_}: {version!r} is no dotted version"

    def test_what_it_has_can_be_asked_for(self) -> None:
        """A feature that only comes along with one that is refused can never be had, so it is not supported."""
        assert unaskable(self.driver) == {}

    def test_every_limit_counts_something_and_says_where_it_is_from(self) -> None:
        """And none is so low that it would not be asked for."""
        known = {one.id: one for one in COUNTABLES}
        assert set(self.driver.limits) <= set(known)
        for id_, limit in self.driver.limits.items():
            assert link(limit.source), f"{id_}: {limit.source!r} leads nowhere"
            assert limit.most >= known[id_].everywhere, f"{id_}: {limit.most} is less than what is never asked"

    # -- the description -----------------------------------------------------------------------------------------------

    def test_describes_itself(self) -> None:
        """For people and for placement."""
        driver = self.driver
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", driver.name), "the name becomes a part of labels"
        assert driver.emulated_virt_types <= set(driver.virt_types)
        assert set(driver.aliases.values()) <= set(driver.virt_types)
        assert driver.os_types
        for address in driver.links:
            assert urlsplit(address).scheme == "https"
        for uri in driver.uris:
            assert ":" in uri
            assert not urlsplit(uri).password

    def test_names_of_domains_are_plain_and_apart(self) -> None:
        """libvirt puts the name into paths; two machines never share one."""
        seen: dict[str, tuple[str, str]] = {}
        for case in _corpus(self.driver).values():
            vmi = case.vmi
            name = self.driver.domain_name(domain_name(vmi), domain_uuid(vmi))
            assert name == self.driver.domain_name(domain_name(vmi), domain_uuid(vmi))
            assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name), name
            machine = case.obj["metadata"]["namespace"], case.obj["metadata"]["name"]
            if "firmware.uuid" not in case.features:  # the examples share one
                assert seen.setdefault(name, machine) == machine

    def test_overhead_is_an_amount_of_memory(self) -> None:
        """It is added to what the Pod asks for."""
        for case in _corpus(self.driver).values():
            assert MIB <= self.driver.overhead_bytes(case.vmi.spec) <= 4096 * MIB, case.id

    # -- the launcher --------------------------------------------------------------------------------------------------

    def test_plan_can_be_carried_out(self, tmp_path: Path) -> None:
        """The launcher reads it, all that it writes is below its folder, and it has a way to power down."""
        for endpoint in _endpoints(self.driver, tmp_path):
            plan = self.driver.launcher(tmp_path, tmp_path / "scratch", endpoint)
            content = {**asdict(plan), "protocol": 1, "domain": {"name": "a", "uuid": "b"}}
            (tmp_path / "plan.json").write_text(json.dumps(content))
            read = read_plan(tmp_path)
            assert read.uri == plan.uri
            assert re.match(r"[a-z]+(\+[a-z]+)?:", plan.uri), plan.uri
            assert plan.shutdown or not self.driver.graceful_shutdown
            for mode in (mode for way in plan.shutdown for mode in way.split("+")):
                assert mode in MODES or _SIGNAL.fullmatch(mode), mode
            if not has(self.driver, "lifecycle.events"):
                assert plan.poll_seconds > 0, "without events the launcher must look"
            assert all(path.startswith("/dev/") for path in plan.devices)
            assert all(re.fullmatch(r"[A-Z_]+", name) for name in plan.capabilities)

    def test_plan_is_the_same_every_time(self, tmp_path: Path) -> None:
        """A launcher that died is started again with it."""
        assert self.driver.launcher(tmp_path, tmp_path) == self.driver.launcher(tmp_path, tmp_path)

    def test_plan_holds_no_secret(self, tmp_path: Path) -> None:
        """A plan is read by more eyes than an endpoint's credentials, which libvirt reads from their own file."""
        for endpoint in _endpoints(self.driver, tmp_path):
            plan = self.driver.launcher(tmp_path, None, endpoint)
            assert SECRET not in json.dumps(asdict(plan))
            assert not urlsplit(plan.uri).password
            if endpoint and self.driver.place is Place.HOST:
                assert str(endpoint.auth_file) in json.dumps(asdict(plan)), "nothing reads the credentials"

    # -- the probe -----------------------------------------------------------------------------------------------------

    def test_probe_on_a_bare_host_says_what_is_missing_and_is_quick(self) -> None:
        """No hypervisor, no daemon, no device: the node must not wait for that, let alone fall over it."""
        result, seconds = probe_nowhere(self.driver)
        assert isinstance(result, ProbeResult), result
        if is_really_bare() and self.needs_a_host:
            assert not result.available
        if not result.available:
            assert result.reason.strip()
            assert "\n" not in result.reason
            assert seconds < 10 * PROBE_SECONDS, "a busy machine is allowed for"

    # -- domains -------------------------------------------------------------------------------------------------------

    def test_corpus_asks_for_everything_that_the_driver_has(self) -> None:
        """At least once each, and at least sixty machines."""
        cases = _corpus(self.driver)
        assert len(cases) >= machines.LEAST
        assert set(askable(self.driver)) == frozenset().union(*(case.features for case in cases.values()))

    def test_domain_is_valid_by_libvirts_schema(self, case: Case) -> None:
        """What the converter and the driver write is what libvirt reads."""
        found = flaws(render(case.vmi, self.driver, case.context))
        since = [version for id_ in case.features if newer(version := self.driver.features[id_].min_libvirt)]
        if found and since:
            pytest.skip(f"newer libvirt: the schema of libvirt {max(since)} is needed")
        assert found == []

    def test_domain_is_the_same_every_time_and_the_machine_stays_as_it_was(self) -> None:
        """Rendering is a function of its arguments: what a launcher is given again must not differ."""
        for case in _corpus(self.driver).values():
            vmi = case.vmi
            before = vmi.model_dump()
            first = render(vmi, self.driver, case.context)
            assert render(vmi, self.driver, case.context) == first, case.id
            assert vmi.model_dump() == before, case.id

    def test_domain_has_the_drivers_type_name_and_size(self) -> None:
        """The least that libvirt needs, and that a user counts on."""
        for case in _corpus(self.driver).values():
            domain = etree.fromstring(render(case.vmi, self.driver, case.context))
            name = self.driver.domain_name(domain_name(case.vmi), domain_uuid(case.vmi))
            assert domain.get("type") == case.context.virt_type, case.id
            assert domain.findtext("name") == name, case.id
            assert domain.findtext("uuid") == domain_uuid(case.vmi), case.id
            assert domain.findtext("os/type") in self.driver.os_types, case.id

    def test_defaults_fill_in_once(self) -> None:
        """Applied again they change nothing, and they ask for nothing that the driver lacks."""
        for case in _corpus(self.driver).values():
            spec = case.vmi.spec.model_copy(deep=True)
            self.driver.defaults(spec)
            once = spec.model_dump()
            self.driver.defaults(spec)
            assert spec.model_dump() == once, case.id
            assert unsupported(self.driver, spec, case.context.virt_type) == [], case.id

    # -- admission -----------------------------------------------------------------------------------------------------

    def test_refusal_names_the_feature_its_field_and_who_would_do(self, lacking: str) -> None:
        """A machine that asks for one feature which the driver lacks is refused for that, and says so well."""
        driver, wanted = self.driver, example(lacking, self.driver)
        drivers = _with(driver)
        spec = VirtualMachineInstanceSpec.model_validate(wanted.spec)
        outcome = admit("CREATE", VMIS, instance(driver, wanted.spec), None, AdmissionContext({}, drivers))
        causes = {problem.feature: problem for problem in outcome.problems}
        assert len(causes) == len(outcome.problems)
        assert set(causes) == {lacking, *(id_ for id_ in wanted.companions if not has(driver, id_))}
        cause, support = causes[lacking], answer_of(driver, lacking)
        assert cause.field == BY_ID[lacking].paths(spec)[0]
        assert cause.reason == "FieldValueNotSupported"
        for words in (BY_ID[lacking].title, driver.title, support.reason, link(support.source)):
            assert words in cause.message
        others = [each.name for each in drivers if each is not driver and not unsupported(each, spec)]
        assert not others or cause.message.endswith(f"; supported by {' or '.join(others)}")

    def test_what_it_has_is_admitted(self) -> None:
        """Under a condition too: whether a node fulfils it is placement's question."""
        for id_ in askable(self.driver):
            obj = instance(self.driver, example(id_, self.driver).spec)
            outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, _with(self.driver)))
            assert outcome.problems == [], id_
            left = {f.id for f, _ in asked(VirtualMachineInstanceSpec.model_validate(outcome.obj["spec"]))}
            assert id_ in left


def _conditions(support: Support) -> list[Any]:
    versions = (support.min_libvirt, support.min_hypervisor)
    given = (
        *versions,
        support.virt_types,
        support.architectures,
        support.node_fact,
        support.node_cpu,
        support.node_machine,
    )
    return [condition for condition in given if condition]


def _endpoints(driver: Driver, folder: Path) -> list[Endpoint | None]:
    """Return this machine, and a host that a connection reaches, with credentials in a file."""
    if driver.place is not Place.HOST:
        return [None]
    auth_file = folder / "auth.conf"
    auth_file.write_text(f"[credentials-a]\nusername=root\npassword={SECRET}\n")
    return [None, *(Endpoint(uri, auth_file) for uri in driver.uris)]


def _with(driver: Driver) -> DriverRegistry:
    others = [each for each in registry() if each.name != driver.name]
    return DriverRegistry([*others, driver])
