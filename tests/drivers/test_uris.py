"""Connection URIs: which are taken, and that what could run a program or trust any host never is."""

from __future__ import annotations

import pytest

from polyvisor.drivers import registry
from polyvisor.drivers.uris import driver_of, insecure_part, parse, schemes


def problems(uri: str) -> list[str]:
    return [problem.message for problem in parse(uri, registry())[1]]


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system",
        "qemu:///session",
        "qemu+unix:///system?socket=/run/other/libvirt-sock",
        "qemu+ssh://root@host.example.org/system",
        "qemu+ssh://root@host.example.org:2222/system?proxy=native&socket=/run/x/libvirt-sock&mode=direct",
        "qemu+tls://host.example.org/system",
        "qemu://host.example.org/system",
        "qemu+ssh://root@[fd00::1]:22/system",
        "lxc:///system",
        "lxc:///",
        "xen+ssh://root@host/system",
        "ch:///system",
        "bhyve+ssh://root@host/system",
        "esx://root@esx.example.org/?vcenter=vc.example.org",
        "vpx://user@vc.example.org/Datacenter/Cluster/host",
        "hyperv://administrator@host/?transport=https",
        "vbox:///session",
        "vmwareplayer:///session",
        "vz:///system",
        "openvz:///system",
    ],
)
def test_a_uri_of_a_driver_is_taken_and_written_again_as_it_was(uri: str) -> None:
    found, wrong = parse(uri, registry())
    assert wrong == []
    assert found is not None
    again, _ = parse(found.text(), registry())
    assert again == found


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("qemu+ssh://h/system?command=/tmp/x", "'command' is not accepted: it runs a program on this machine"),
        ("qemu+ssh://h/system?netcat=/tmp/x", "'netcat' is not accepted: it runs a program on the host"),
        ("qemu+ssh://h/system?argv=x", "'argv' is not accepted"),
        ("qemu+ssh://h/system?no_verify=1", "'no_verify' is not accepted: it switches the verification"),
        ("qemu+libssh2://h/system?known_hosts_verify=ignore", "transport 'libssh2' is not accepted"),
        ("qemu+ssh://h/system?known_hosts_verify=ignore", "'known_hosts_verify' is not accepted"),
        ("qemu+ssh://h/system?keyfile=/root/.ssh/id", "'keyfile' is not accepted: give ssh-privatekey"),
        ("qemu+ext:///system?command=/bin/sh", "transport 'ext' is not accepted; accepted: qemu, qemu+unix, qemu+ssh"),
        ("qemu+tls://h/system?pkipath=/etc", "'pkipath' is not accepted"),
        ("qemu+tls://h/system?authfile=/etc/shadow", "'authfile' is not accepted"),
        ("qemu+ssh://h/system?name=qemu%3A///embed", "'name' is not accepted"),
        ("qemu+unix:///system?socket=/run/s%26command=x", "the parameter socket has the value '/run/s&command=x'"),
        ("qemu+unix:///system?socket=/run/s;command=x", "the parameter socket has the value '/run/s;command=x'"),
        ("qemu+unix:///system?socket=/a&socket=/b", "the parameter 'socket' stands there 2 times"),
        ("qemu+ssh://-oProxyCommand=x/system", "found the host '-oproxycommand=x'"),
        ("qemu+ssh://-oProxyCommand=x@h/system", "found the user '-oProxyCommand=x'"),
        ("qemu+tls://h/system?tls_priority=NONE:%2BNULL", "NONE in the parameter tls_priority can switch encryption"),
        ("qemu+tls://h/system?tls_priority=NORMAL:%2Banon-ecdh", "anon in the parameter tls_priority can switch"),
        ("qemu+ssh://$(id)@h/system", "found the user '$(id)'"),
        ("qemu+ssh://h/system#x", "found a fragment"),
        ("qemu:///embed?root=/var", "found the path '/embed'; accepted: /system, /session"),
        ("qemu+ssh:///system", "no host is named; write qemu+ssh://HOST/..."),
        ("qemu+unix://h/system", "found the host 'h', but this URI leads to this machine"),
        ("esx:///", "no host is named; write esx://HOST/..."),
        ("esx://h/?no_verify=1", "'no_verify' is not accepted"),
        ("esx+ssh://h/", "transport 'ssh' is not accepted; accepted: esx"),
        ("qemu+ssh://u@h:port/system", "which is not a URI"),
        ("qemu:///sys tem", "found a character that a URI may not have"),
        ("qemu:///system\n", "found a character that a URI may not have"),
        (f"qemu:///{'x' * 2000}", "found 2008 characters; accepted: at most 1024"),
        ("qemu:///system?socket", "are not of the form NAME=VALUE"),
    ],
)
def test_what_is_dangerous_or_wrong_is_refused_with_what_is_accepted(uri: str, said: str) -> None:
    assert said in "; ".join(problems(uri))


def test_a_password_is_refused_and_not_shown() -> None:
    (said,) = problems("qemu+ssh://root:secret@host/system")
    assert "found a password; write it into the Secret of spec.credentials" in said
    assert "secret@" not in said
    (said,) = (problems("noscheme root:secret@host"),)
    assert "secret" not in str(said)
    assert "secret" not in str(problems("what://root:secret@host:x/"))


def test_an_unknown_scheme_names_those_of_the_drivers() -> None:
    (said,) = problems("kvm:///system")
    assert said.startswith("unknown scheme 'kvm'; known: qemu, ")
    assert "esx" in said


def test_each_scheme_belongs_to_one_driver_and_each_driver_has_one() -> None:
    known = schemes(registry())
    assert len(known) == len(set(known))
    assert all(driver.schemes for driver in registry())


def test_the_uris_that_drivers_show_are_accepted() -> None:
    for driver in registry():
        for uri in driver.uris:
            found, wrong = parse(uri, registry())
            assert wrong == [], uri
            assert found is not None
            pair = driver_of(found.scheme, registry())
            assert pair is not None
            assert pair[0] is driver


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("qemu+tcp://h/system", "qemu+tcp"),
        ("hyperv://h/?transport=http", "transport=http"),
        ("esx://h/?transport=http", "transport=http"),
        ("esx://h/?transport=https", ""),
        ("qemu+tls://h/system", ""),
    ],
)
def test_what_does_not_encrypt_is_known(uri: str, part: str) -> None:
    found, _ = parse(uri, registry())
    assert found is not None
    pair = driver_of(found.scheme, registry())
    assert pair is not None
    assert insecure_part(found, pair[1]) == part
