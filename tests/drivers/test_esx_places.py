"""How an ESX host's files are named: as paths, by their datastore, and those that Polyvisor makes there."""

from __future__ import annotations

import pytest

from polyvisor.drivers.esx import EsxDriver, datastore_path, host_path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/vmfs/volumes/store1/web/root.vmdk", "[store1] web/root.vmdk"),
        ("/store1/web/root.vmdk", "[store1] web/root.vmdk"),
        ("[store1] web/root.vmdk", "[store1] web/root.vmdk"),
    ],
)
def test_a_disk_is_named_by_its_datastore(path: str, name: str) -> None:
    assert datastore_path(path) == name
    assert host_path(name) == "/vmfs/volumes/store1/web/root.vmdk"


def test_a_volume_that_is_made_has_a_folder_of_its_own() -> None:
    assert EsxDriver().volume_name("polyvisor-pvc-1.vmdk") == "polyvisor-pvc-1/polyvisor-pvc-1.vmdk"
    assert EsxDriver().volume_name("polyvisor-image-1.whole") == "polyvisor-image-1.whole/polyvisor-image-1.whole.vmdk"


@pytest.mark.parametrize(
    ("uri", "host", "datacenter"),
    [
        ("esx://root@h:8443/", "h:8443", "ha-datacenter"),
        ("vpx://u@v/dc%201/cluster/h", "v", "dc%201"),
        ("vpx://u@v/dc1/h", "v", "dc1"),
    ],
)
def test_the_content_of_a_disk_is_written_at_the_hosts_datastore_access(uri: str, host: str, datacenter: str) -> None:
    url = EsxDriver().upload_url(uri, "store 1", "polyvisor-a/polyvisor-a.vmdk")
    wanted = f"https://{host}/folder/polyvisor-a/polyvisor-a-flat.vmdk?dcPath={datacenter}&dsName=store%201"
    assert url == wanted
