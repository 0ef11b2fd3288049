# shellcheck shell=bash
# Debian's kernel, for build-guest and build-box. Another meta package of a kernel may be chosen by VM_KERNEL.

meta=${VM_KERNEL:-linux-image-6.12-cloud-amd64}
# shellcheck disable=SC2034
suite=bookworm

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "needs root, for mmdebstrap"
kernel=$(apt-cache depends "$meta" 2> /dev/null | sed -n 's/ *Depends: *\(linux-image\)/\1/p' | head -n 1)
[ -n "$kernel" ] || fail "apt knows no $meta: run apt-get update"

# unpack_kernel FOLDER: fetches the kernel package and unpacks it into FOLDER; sets `version`.
unpack_kernel() {
    mkdir "$1"
    (cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$kernel" >&2) || fail "cannot download $kernel"
    dpkg-deb -x "$1/$kernel"_*.deb "$1"
    version=$(ls "$1/lib/modules")
}

# add_modules FROM ROOT: gives a root file system the modules of the kernel that was unpacked into FROM.
add_modules() {
    cp -a "$1/lib/modules" "$2/lib/"
    chroot "$2" depmod "$version"
}

# initial_ram FOLDER ROOT: lays out the initial RAM file system in FOLDER: busybox, and the one module between the kernel and its
# root, which is ROOT's.
initial_ram() {
    mkdir -p "$1/bin"
    cp /bin/busybox "$1/bin/"
    find "$2/lib/modules" -name 'virtio_blk.ko*' -exec xz -dc {} \; > "$1/virtio_blk.ko"
}
