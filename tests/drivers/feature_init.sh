#!/bin/sh
# Init of the guest that looks at itself: it loads what drivers there are and prints what it finds, one fact a line.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
dmesg -n 1
while read -r module; do insmod "$module" 2>/dev/null; done </etc/modules
fact() { echo "FACT $*"; }
value() { [ -r "$2" ] && fact "$1" "$(tr -d '\0' <"$2" 2>/dev/null | tr '\n' ' ')"; }
[ -d /sys/firmware/efi ] && mount -t efivarfs efivarfs /sys/firmware/efi/efivars 2>/dev/null

# a CD-ROM tells its medium, USB its disks and a sound card its codec a moment after their drivers are there
for moment in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    [ -z "$(sed -n 's/.*\bawait=\([a-z0-9]*\).*/\1/p' /proc/cmdline)" ] && break
    [ -e "/sys/block/$(sed -n 's/.*\bawait=\([a-z0-9]*\).*/\1/p' /proc/cmdline)" ] && break
    sleep 0.2
done

fact cmdline "$(cat /proc/cmdline)"
fact memory.kib "$(awk '/MemTotal/ {print $2}' /proc/meminfo)"
fact hugepages "$(awk '/HugePages_Total/ {print $2}' /proc/meminfo)"
fact cpu.count "$(nproc)"
fact cpu.model "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
fact cpu.flags "$(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo | head -n 1)"
fact cpu.sockets "$(cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | sort -u | wc -l)"
fact cpu.threads "$(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)"
fact cpu.possible "$(cat /sys/devices/system/cpu/possible)"
fact clocksources "$(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)"
fact hpet "$([ -e /sys/bus/acpi/devices/PNP0103:00 ] && echo yes || echo no)"
fact rtc "$(cat /sys/class/rtc/rtc0/since_epoch 2>/dev/null)"
fact acpi "$([ -e /sys/firmware/acpi/tables/FACP ] && echo yes || echo no)"
fact ioapic "$([ -e /sys/firmware/acpi/tables/APIC ] && echo yes || echo no)"
fact efi "$([ -d /sys/firmware/efi ] && echo yes || echo no)"
for name in /sys/firmware/efi/efivars/SecureBoot-*; do [ -e "$name" ] && fact secureboot "$(tail -c 1 "$name" | hexdump -e '1/1 "%d"')"; done
kept=/sys/firmware/efi/efivars/Polyvisor-5d307ca9-b3ef-428c-8861-06e72d69f223
if [ -d /sys/firmware/efi ]; then
    fact efi.kept "$([ -e $kept ] && tail -c +5 $kept)"
    [ -e $kept ] || printf '\007\000\000\000kept' >$kept
fi
for name in sys_vendor product_name product_uuid product_serial chassis_vendor chassis_version chassis_serial chassis_asset_tag bios_vendor; do
    value "dmi.$name" "/sys/class/dmi/id/$name"
done
for device in /sys/bus/pci/devices/*; do
    fact "pci.${device##*/}" "$(cat "$device/vendor" "$device/device" "$device/class" | tr '\n' ' ')"
done
for device in /sys/bus/acpi/devices/*; do
    case $(cat "$device/hid" 2>/dev/null) in QEMU0001) fact panic.acpi yes ;; MSFT0101 | PNP0C31) fact tpm.acpi yes ;; esac
done
for disk in /sys/block/[vs]d* /sys/block/sr*; do
    [ -e "$disk" ] || continue
    name="disk.${disk##*/}"
    fact "$name.path" "$(readlink -f "$disk")"
    case $(cat /proc/cmdline) in *brief*) # of many disks no more than which they are and where
        fact "$name.start" "$(dd if="/dev/${disk##*/}" bs=16 count=1 2>/dev/null | tr -cd 'a-zA-Z0-9-')"
        continue
        ;;
    esac
    fact "$name.bytes" "$(($(cat "$disk/size") * 512))"
    value "$name.readonly" "$disk/ro"
    value "$name.serial" "$disk/serial"
    [ -e "$disk/device/vpd_pg80" ] && fact "$name.serial" "$(tail -c +5 "$disk/device/vpd_pg80" | tr -d '\0')"
    value "$name.logical" "$disk/queue/logical_block_size"
    value "$name.physical" "$disk/queue/physical_block_size"
    value "$name.writecache" "$disk/queue/write_cache"
    value "$name.discard" "$disk/queue/discard_max_bytes"
    value "$name.granularity" "$disk/queue/discard_granularity"
    value "$name.rotational" "$disk/queue/rotational"
    fact "$name.queues" "$(ls "$disk/mq" | wc -l)"
    [ -e "$disk/device/model" ] && value "$name.model" "$disk/device/model"
    fact "$name.start" "$(dd if="/dev/${disk##*/}" bs=16 count=1 2>/dev/null | tr -cd 'a-zA-Z0-9-')"
done
for card in /sys/class/net/*; do
    name="net.${card##*/}"
    [ "${card##*/}" = lo ] && continue
    ip link set "${card##*/}" up 2>/dev/null
    fact "$name.driver" "$(basename "$(readlink -f "$card/device/driver")")"
    value "$name.mac" "$card/address"
    fact "$name.path" "$(readlink -f "$card/device")"
    value "$name.acpi" "$card/device/acpi_index"
    value "$name.acpi" "$(readlink -f "$card/device/..")/acpi_index"
    sleep 0.1
    fact "$name.carrier" "$(cat "$card/carrier" 2>/dev/null)"
done
value rng /sys/class/misc/hw_random/rng_available
value watchdog /sys/class/watchdog/watchdog0/identity
fact inputs "$(sed -n 's/^N: Name=//p' /proc/bus/input/devices | tr '\n' ' ')"
fact sound "$(sed -n 's/^ *[0-9]* \[.*\]: //p' /proc/asound/cards 2>/dev/null | tr '\n' ' ')"
value tpm /sys/class/tpm/tpm0/tpm_version_major
# how often this TPM was started since it was made, of the answer to TPM2_ReadClock
[ -e /dev/tpm0 ] && exec 3<>/dev/tpm0 && printf '\200\001\000\000\000\012\000\000\001\201' >&3 &&
    fact tpm.starts "$(dd bs=64 count=1 <&3 2>/dev/null | tail -c +27 | hexdump -v -n 4 -e '4/1 "%d "')"
for device in /sys/bus/virtio/devices/*; do [ -e "$device" ] && fact "virtio.$(cat "$device/device")" yes; done
mkdir -p /mnt/disc
for disk in /dev/[vs]d* /dev/sr*; do
    mount -o ro -t iso9660 "$disk" /mnt/disc 2>/dev/null || continue
    label=$(dd if="$disk" bs=8 skip=4101 count=4 2>/dev/null | tr -d ' \0')
    for file in $(cd /mnt/disc && find . -type f); do value "disc.$label/${file#./}" "/mnt/disc/$file"; done
    umount /mnt/disc
done
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name" 2>/dev/null)" = org.github.vhostmd.1 ] || continue
    exec 4<>"/dev/${port##*/}"
    printf 'GET /metrics/XML\n\n' >&4
    while read -r line && [ -n "$line" ]; do
        case $line in "<name>"*) metric=${line#<name>} ;; "<value>"*) fact "host.${metric%%<*}" "$(echo "${line#<value>}" | cut -d '<' -f 1)" ;; esac
    done <&4
    exec 4>&-
done
for disk in /sys/block/vd*; do
    [ "$(dd if="/dev/${disk##*/}" bs=4 count=1 2>/dev/null)" = mvbd ] || continue
    fact metrics.disk "$(dd if="/dev/${disk##*/}" bs=4096 count=1 2>/dev/null | tr -d '\0' | sed -n '/HostName/{n;s/ *<[^>]*>//g;p}')"
    fact metrics.readonly "$(cat "$disk/ro")"
done
mkdir -p /mnt/share
for tag in $(sed -n 's/.*\bshares=\([a-z,]*\).*/\1/p' /proc/cmdline | tr ',' ' '); do
    mount -t virtiofs "$tag" /mnt/share || continue
    for file in $(cd /mnt/share && find . -type f); do value "share.$tag/${file#./}" "/mnt/share/$file"; done
    echo "of the guest" >/mnt/share/written && fact "share.$tag.writable" yes
    umount /mnt/share
done
fact end
case $(cat /proc/cmdline) in *then=watch*)
    while :; do
        now=
        for disk in /sys/block/sd* /sys/block/vd* /sys/block/sr*; do
            [ -e "$disk" ] || continue
            now="$now ${disk##*/}=$(dd if="/dev/${disk##*/}" bs=16 count=1 2>/dev/null | tr -cd 'a-zA-Z0-9-')"
        done
        [ "$now" = "$before" ] || echo "DISKS$now."
        before=$now
        sleep 0.1
    done
    ;;
esac
case $(cat /proc/cmdline) in *then=share*)
    # writes its word into its own block of the disk, then says what stands in both whenever that changes
    word=$(sed -n 's/.*\bsay=\([a-z]*\).*/\1/p' /proc/cmdline) place=$(sed -n 's/.*\bat=\([0-9]*\).*/\1/p' /proc/cmdline)
    echo "$word" | dd of=/dev/vda bs=4096 seek="$place" conv=notrunc,fsync 2>/dev/null
    while :; do
        now=
        for block in 1 2; do now="$now $(dd if=/dev/vda bs=4096 skip=$block count=1 2>/dev/null | tr -cd a-z)"; done
        [ "$now" = "$before" ] || echo "SHARED$now."
        before=$now
        sleep 0.1
    done
    ;;
esac
case $(cat /proc/cmdline) in *then=reboot*) reboot -f ;; *then=panic*) echo c >/proc/sysrq-trigger ;; esac
exec sleep 1000000
