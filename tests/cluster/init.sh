#!/bin/sh
# The first process of a host, in namespaces of its own: init.sh NAME FOLDER NEEDED...
# The host's disk is this machine's, copy on write, but for a home, /tmp, /run and /dev/shm of its own;
# each NEEDED folder is there too. FOLDER holds `hosts` and the keys. It ends as the host's SSH server.
set -eu
name=$1 folder=$2 disk=/mnt/disk
shift 2

layered() {
    layer=/mnt/$(echo "$1" | tr / _)
    mkdir -p "$layer/changes" "$layer/work" "$disk$1"
    mount -t overlay host "$disk$1" \
        -o "lowerdir=$1,upperdir=$layer/changes,workdir=$layer/work"
}

hostname "$name"
mount -t tmpfs host /mnt
layered /
mkdir -p $disk/home/ubuntu
for own in /home/ubuntu /run; do mount -t tmpfs -o mode=755 host $disk$own; done
mount -t tmpfs host $disk/tmp
for needed; do layered "$needed"; done
mount -t proc host $disk/proc
mount --rbind /sys $disk/sys
mount --rbind /dev $disk/dev
mount -t tmpfs host $disk/dev/shm

# A user who may do everything, as on Ubuntu's images.
sed -i 's,^root:.*,ubuntu:x:0:0::/home/ubuntu:/bin/bash,' $disk/etc/passwd
printf '#!/bin/sh\nexec "$@"\n' > $disk/usr/local/bin/sudo
chmod +x $disk/usr/local/bin/sudo
cp /etc/skel/.bashrc /etc/skel/.profile $disk/home/ubuntu
cp "$folder/hosts" $disk/etc/hosts
install -d -m 700 $disk/home/ubuntu/.ssh $disk/run/sshd
install -m 600 "$folder/host_key" $disk/run/sshd/host_key
install -m 600 "$folder/key.pub" $disk/home/ubuntu/.ssh/authorized_keys
echo ready
exec chroot $disk /usr/sbin/sshd -D -e -f /dev/null -o HostKey=/run/sshd/host_key \
    -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no
