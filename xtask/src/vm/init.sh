#!/bin/busybox sh
# The first process of a guest: mounts what tests expect of a machine, runs them, and ends the machine.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin:/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
for folder in /tmp /run /mnt; do mount -t tmpfs tmpfs $folder; done
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 > /proc/sys/kernel/printk
# Makes /dev/net/tun, which the machine's udev would have.
modprobe tun
ip link set lo up
export SLUICE_BPF_OBJECT=/sluice-bpf.o SLUICE_BIN=/bin/sluice SLUICE_LAB_SLOWER=10
echo "guest: begin $(uname -r)"
. /tests.sh
sync
reboot -f
