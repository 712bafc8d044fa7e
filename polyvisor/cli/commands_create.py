"""``create``: objects from manifests (-f), and manifests from flags (vm, instancetype, preference, clone)."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import DryRun, Format, Namespace
from polyvisor.cli.output import Output, print_structured

Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(create)
    for command in (vm, instancetype, preference, clone):
        group.command()(command)
    app.add_typer(group, name="create")


def create(
    ctx: typer.Context,
    filename: Annotated[Many, typer.Option("-f", "--filename", help="File, folder, or - for standard input.")] = None,
    namespace: Namespace = "",
    output: Format = Output.TABLE,
    dry_run: DryRun = False,
) -> None:
    """Create objects (-f FILE; a name that exists is an error), or write a manifest (create vm ...)."""
    from polyvisor.cli.change import create as act

    if ctx.invoked_subcommand:
        return
    if not filename:
        raise CliError("create what?", ExitCode.USAGE, "Give -f FILE, or a kind: polyvisor create vm -h.")
    act(_context(ctx).connect(), filename, namespace, output=output, dry_run=dry_run)


def vm(
    name: Annotated[str, typer.Option(help="Name of the machine; by default vm- and some letters.")] = "",
    namespace: Namespace = "",
    driver: Annotated[str, typer.Option(help="Hypervisor driver; by default whichever fits best.")] = "",
    run_strategy: Annotated[str, typer.Option(help="Always, Halted, Manual, Once or RerunOnFailure.")] = "Always",
    termination_grace_period: Annotated[int, typer.Option(help="Seconds for a clean shutdown.")] = 180,
    memory: Annotated[str, typer.Option(help="Memory of the guest; 512Mi unless an instance type is given.")] = "",
    instancetype: Annotated[str, typer.Option(help="[KIND/]NAME of an instance type.")] = "",
    infer_instancetype: Annotated[
        bool | None, typer.Option("--infer-instancetype", help="Take it from the first volume.")
    ] = None,
    infer_instancetype_from: Annotated[str, typer.Option(metavar="VOLUME", help="Take it from this volume.")] = "",
    preference: Annotated[str, typer.Option(help="[KIND/]NAME of a preference.")] = "",
    infer_preference: Annotated[
        bool | None, typer.Option("--infer-preference", help="Take it from the first volume.")
    ] = None,
    infer_preference_from: Annotated[str, typer.Option(metavar="VOLUME", help="Take it from this volume.")] = "",
    volume_containerdisk: Annotated[Many, typer.Option(help="src:IMAGE[,name:N][,bootorder:N]")] = None,
    volume_pvc: Annotated[Many, typer.Option(help="src:[NAMESPACE/]CLAIM[,name:N][,bootorder:N]")] = None,
    volume_import: Annotated[
        Many, typer.Option(help="type:blank|http|registry|s3|gcs|pvc|snapshot|ds,size:S,url:U|src:[NAMESPACE/]NAME")
    ] = None,
    volume_datasource: Annotated[Many, typer.Option(help="An older form of --volume-import type:ds,...")] = None,
    volume_clone_pvc: Annotated[Many, typer.Option(help="An older form of --volume-import type:pvc,...")] = None,
    volume_blank: Annotated[Many, typer.Option(help="An older form of --volume-import type:blank,...")] = None,
    volume_sysprep: Annotated[str, typer.Option(help="src:NAME[,type:configMap|secret]")] = "",
    user: Annotated[str, typer.Option(help="Default user of the guest (cloud-init).")] = "",
    password_file: Annotated[str, typer.Option(help="File with the user's password (cloud-init).")] = "",
    ssh_key: Annotated[Many, typer.Option(help="Public key of the user (cloud-init); may be repeated.")] = None,
    ga_manage_ssh: Annotated[
        bool, typer.Option("--ga-manage-ssh", help="Let the guest's agent manage keys (cloud-init).")
    ] = False,
    access_cred: Annotated[
        Many, typer.Option(help="src:SECRET[,type:ssh|password][,method:ga|nocloud|configdrive][,user:U]")
    ] = None,
    cloud_init: Annotated[str, typer.Option(help="nocloud, configdrive or none.")] = "",
    cloud_init_user_data: Annotated[str, typer.Option(metavar="BASE64", help="All of the user data.")] = "",
    cloud_init_network_data: Annotated[str, typer.Option(metavar="BASE64", help="The network data.")] = "",
    output: Format = Output.YAML,
) -> None:
    """Write the manifest of a virtual machine to standard output: create vm ... | polyvisor apply -f -."""
    from polyvisor.cli.create_vm import Wanted, manifest

    older = {"ds": volume_datasource, "pvc": volume_clone_pvc, "blank": volume_blank}
    wanted = Wanted(
        name=name,
        namespace=namespace,
        driver=driver,
        run_strategy=run_strategy,
        grace=termination_grace_period,
        memory=memory,
        instancetype=instancetype,
        infer_instancetype=infer_instancetype,
        infer_instancetype_from=infer_instancetype_from,
        preference=preference,
        infer_preference=infer_preference,
        infer_preference_from=infer_preference_from,
        containerdisks=volume_containerdisk or (),
        pvcs=volume_pvc or (),
        imports=[f"type:{kind},{text}" for kind, texts in older.items() for text in texts or ()]
        + (volume_import or []),
        sysprep=volume_sysprep,
        user=user,
        password_file=password_file,
        ssh_keys=[key for given in ssh_key or () for key in given.split(",")],
        ga_manage_ssh=ga_manage_ssh,
        access_creds=access_cred or (),
        cloud_init=cloud_init,
        user_data=cloud_init_user_data,
        network_data=cloud_init_network_data,
    )
    print_structured(manifest(wanted), Output.JSON if output == Output.JSON else Output.YAML)


def instancetype(
    name: Annotated[str, typer.Option(help="Name; by default instancetype- and some letters.")] = "",
    namespace: Namespace = "",
    namespaced: Annotated[bool, typer.Option("--namespaced", help="For machines of one namespace alone.")] = False,
    cpu: Annotated[int, typer.Option(help="Number of CPUs that the guest sees.")] = 0,
    memory: Annotated[str, typer.Option(help="The guest's memory, such as 512Mi.")] = "",
    gpu: Annotated[Many, typer.Option(help="name:NAME,devicename:RESOURCE; may be repeated.")] = None,
    hostdevice: Annotated[Many, typer.Option(help="name:NAME,devicename:RESOURCE; may be repeated.")] = None,
    iothreadspolicy: Annotated[str, typer.Option(help="auto, shared or supplementalPool.")] = "",
    output: Format = Output.YAML,
) -> None:
    """Write the manifest of an instance type to standard output."""
    from polyvisor.cli import create_sizes

    made = create_sizes.instancetype(
        name=name,
        namespace=namespace,
        namespaced=namespaced,
        cpu=cpu,
        memory=memory,
        gpus=gpu or (),
        host_devices=hostdevice or (),
        io_threads_policy=iothreadspolicy,
    )
    print_structured(made, Output.JSON if output == Output.JSON else Output.YAML)


def preference(
    name: Annotated[str, typer.Option(help="Name; by default preference- and some letters.")] = "",
    namespace: Namespace = "",
    namespaced: Annotated[bool, typer.Option("--namespaced", help="For machines of one namespace alone.")] = False,
    cpu_topology: Annotated[str, typer.Option(help="sockets, cores, threads, spread or any.")] = "",
    machine_type: Annotated[str, typer.Option(help="Machine type, such as q35.")] = "",
    volume_storage_class: Annotated[str, typer.Option(help="Storage class of volumes that are made.")] = "",
    driver: Annotated[str, typer.Option(help="Hypervisor driver of machines that name none.")] = "",
    output: Format = Output.YAML,
) -> None:
    """Write the manifest of a preference to standard output."""
    from polyvisor.cli import create_sizes

    made = create_sizes.preference(
        name=name,
        namespace=namespace,
        namespaced=namespaced,
        cpu_topology=cpu_topology,
        machine_type=machine_type,
        storage_class=volume_storage_class,
        driver=driver,
    )
    print_structured(made, Output.JSON if output == Output.JSON else Output.YAML)


def clone(
    name: Annotated[str, typer.Option(help="Name of the clone; by default clone- and some letters.")] = "",
    namespace: Namespace = "",
    source_name: Annotated[str, typer.Option(help="Name of the virtual machine or snapshot to clone.")] = "",
    source_type: Annotated[str, typer.Option(help="vm or snapshot.")] = "vm",
    target_name: Annotated[str, typer.Option(help="Name of the new machine; by default one is generated.")] = "",
    target_type: Annotated[str, typer.Option(help="vm.")] = "vm",
    label_filter: Annotated[Many, typer.Option(help="NAME, NAME* or !NAME of labels; may be repeated.")] = None,
    annotation_filter: Annotated[Many, typer.Option(help="The same for annotations.")] = None,
    template_label_filter: Annotated[Many, typer.Option(help="The same for labels of the template.")] = None,
    template_annotation_filter: Annotated[Many, typer.Option(help="The same for its annotations.")] = None,
    new_mac_address: Annotated[Many, typer.Option(help="INTERFACE:ADDRESS; may be repeated.")] = None,
    new_smbios_serial: Annotated[str, typer.Option(help="SMBIOS serial of the new machine.")] = "",
    output: Format = Output.YAML,
) -> None:
    """Write the manifest of a clone to standard output: create clone ... | polyvisor apply -f -."""
    from polyvisor.cli import create_clone

    made = create_clone.clone(
        name=name,
        namespace=namespace,
        source_name=source_name,
        source_type=source_type,
        target_name=target_name,
        target_type=target_type,
        filters={"labelFilters": label_filter or (), "annotationFilters": annotation_filter or ()},
        template_filters={
            "labelFilters": template_label_filter or (),
            "annotationFilters": template_annotation_filter or (),
        },
        mac_addresses=new_mac_address or (),
        serial=new_smbios_serial,
    )
    print_structured(made, Output.JSON if output == Output.JSON else Output.YAML)


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
