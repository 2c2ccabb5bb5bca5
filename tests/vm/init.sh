#!/bin/busybox sh
# PID 1 of the machine: a root that can be pivoted away from, control groups as systemd would have them, then the tests in their phases.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/project PYTHONDONTWRITEBYTECODE=1

if [ "$1" != in-tmpfs ]; then
    # An initramfs cannot be left by pivot_root(2): a tmpfs takes its place.
    busybox mount -t tmpfs -o size=80%,mode=0755 root /new
    for name in /*; do [ "$name" = /new ] || busybox cp -a "$name" /new/; done
    exec busybox switch_root /new /init in-tmpfs
fi

busybox mount -t proc proc /proc
busybox --install -s /usr/bin 2>/dev/null # those that are not there
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
for module in /lib/modules/*; do insmod "$module"; done
ip link set lo up
chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap # which an image's files never have
chown -R tester:tester /home/tester
ulimit -n 1024

# Groups with processes of their own, below one that gives them controllers. The tester may do as it likes below its own, as where systemd
# delegates (Delegate=yes), and has nothing but a place in the other.
groups=/sys/fs/cgroup
echo "+memory +pids" >$groups/cgroup.subtree_control
mkdir $groups/root $groups/delegated $groups/plain
chown tester $groups/delegated $groups/delegated/cgroup.procs $groups/delegated/cgroup.subtree_control $groups/delegated/cgroup.threads

# phase NAME GROUP USER COMMAND...
phase() {
    name=$1 group=$2 user=$3
    shift 3
    echo "@@ begin $name"
    (
        cd /project
        # $$ would be PID 1's.
        sh -c "echo \$PPID >$groups/$group/cgroup.procs"
        if [ "$user" != root ]; then
            export HOME=/home/$user TMPDIR=/tmp
            # By its path, for busybox prefers its own.
            set -- /usr/bin/setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
        fi
        exec "$@" </dev/null 2>&1
    )
    echo "@@ end $name $?"
    # What was moved into a leaf, the leaf itself, and what a jail had.
    find $groups -name 'pytest-nsjail*' | sed "s/^/@@ left by $name: /"
    ps -o pid,ppid,user,args | grep nsjail- | grep -v grep | sed "s/^/@@ left by $name: /"
}

tests() { phase "$1" "$2" "$3" python3 -m pytest -p pytest_nsjail.plugin -p no:cacheprovider -rs --color=no --durations=5 ${4:-$TESTS}; }

phase doctor-root root root python3 -m pytest -p pytest_nsjail.plugin --nsjail-doctor
phase doctor-delegated delegated tester python3 -m pytest -p pytest_nsjail.plugin --nsjail-doctor
phase doctor-plain plain tester python3 -m pytest -p pytest_nsjail.plugin --nsjail-doctor
# The kernel hands TESTS from its command line to PID 1.
tests delegated delegated tester
tests plain plain tester
tests root root root
# The kernel's own group has processes and children with controllers at once.
tests top . root tests/jail/inside

echo "@@ off"
sync
poweroff -f
