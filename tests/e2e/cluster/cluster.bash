# Sourced by the scripts beside it: where the cluster lies, its addresses, and how its programs are started.
#
# A cluster is one node in namespaces of its own: mounts, network and processes. Everything of it lies below $RUN.
# Ports and addresses are the node's alone, so nothing is taken from the machine, and ending the first process of
# the namespace ends all of them, with every mount and every network device.
# shellcheck shell=bash

cache=${STRATA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strata}
RUN=${STRATA_CLUSTER:-/var/tmp/strata-cluster}
PROGRAMS=$RUN/programs     # a link to what `build` made
NODE=node-1
NODE_IP=198.18.0.1         # the node's end of the link to the machine
MACHINE_IP=198.18.0.2      # the machine's end
LINK=strata-e2e            # that link's name on the machine
API_IP=10.96.0.1           # the service "kubernetes": an address of the node, so that no proxy is needed
SERVICES=10.96.0.0/24
PODS=10.244.0.0/24
REGISTRY=127.0.0.1:5000    # open to all
PRIVATE=127.0.0.1:5001     # wants user "e2e" with password "strata"
KUBELET_DIR=/var/lib/kubelet
# Places that programs use whatever they are told, and the usual places of the kubelet and of Strata: the node sees
# folders of $RUN/places there, and the machine's own stay as they are.
PLACES=(/var/lib/kubelet /var/lib/strata /var/lib/cni /var/lib/containerd /var/log/pods /var/log/containers
    /run/containerd /run/strata)
# What the kubelet sets for the whole machine: kept by `up`, put back by `down`.
SETTINGS=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys
    kernel/keys/root_maxbytes)
export KUBECONFIG=$RUN/admin.conf
# Else kubectl and helm leave what they have learnt in the home of whoever runs them.
export KUBECACHEDIR=$RUN/kube-cache HELM_CACHE_HOME=$RUN/helm-cache HELM_CONFIG_HOME=$RUN/helm-config HELM_DATA_HOME=$RUN/helm-data
PATH=$PROGRAMS:$cache/bin:$PATH

say() { echo "cluster: $*" >&2; }
fail() { say "$*"; exit 1; }

# What a cluster changes outside its folder, as text: settings, and which of the places are there.
machine_state() {
    local setting place
    for setting in "${SETTINGS[@]}"; do echo "$setting = $(cat "/proc/sys/$setting")"; done
    for place in "${PLACES[@]}"; do if [ -d "$place" ]; then echo "$place is there"; fi; done
}

seconds_since() { # a time as printed by date +%s%N
    local passed=$((($(date +%s%N) - $1) / 1000000))
    printf '%d.%03d' $((passed / 1000)) $((passed % 1000))
}

wait_for() { # SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { say "gave up waiting for: $*"; return 1; }
        sleep 0.05
    done
}

# The first process of the node as the machine numbers it; fails when there is none. A number is believed only
# within the boot that wrote it, and while it names the namespace that was made.
first_process() {
    local pid
    [ "$(cat "$RUN/boot-id" 2> /dev/null)" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    pid=$(cat "$RUN/first-process" 2> /dev/null) || return 1
    [ "$(readlink "/proc/$pid/ns/pid" 2> /dev/null)" = "$(cat "$RUN/process-namespace" 2> /dev/null)" ] || return 1
    echo "$pid"
}

in_node() { # COMMAND...: runs it in the namespaces of the node
    local pid
    if [ "$(readlink /proc/self/ns/pid)" = "$(cat "$RUN/process-namespace" 2> /dev/null)" ]; then "$@"; return; fi
    pid=$(first_process) || { say "no cluster is up: make cluster"; return 1; }
    nsenter -t "$pid" -m -n -p -- "$@"
}

start() { # NAME COMMAND...: runs it in the node, its output in $RUN/log, its pid (as the node numbers it) in $RUN/pid
    local name=$1; shift
    # shellcheck disable=SC2016
    in_node setsid --fork bash -c 'echo $$ > "$0"; exec "$@"' "$RUN/pid/$name" "$@" \
        >> "$RUN/log/$name.log" 2>&1 < /dev/null
}

is_running() { # NAME
    local state
    [ -s "$RUN/pid/$1" ] || return 1
    # shellcheck disable=SC2016
    state=$(in_node awk '$1 == "State:" { print $2 }' "/proc/$(cat "$RUN/pid/$1")/status" 2> /dev/null)
    [ -n "$state" ] && [ "$state" != Z ]
}

stop() { # NAME...: asks what was started to end, and kills what is still there after five seconds
    local name
    for name; do is_running "$name" && in_node kill "$(cat "$RUN/pid/$name")"; done
    for name; do
        wait_for 5 eval "! is_running $name" || in_node kill -9 "$(cat "$RUN/pid/$name")"
        rm -f "$RUN/pid/$name"
    done
}

start_containerd() {
    start containerd containerd --config "$RUN/containerd.toml"
    wait_for 20 in_node ctr --address "$RUN/containerd.sock" version
}

start_kubelet() {
    start kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.conf" --root-dir="$KUBELET_DIR" \
        --hostname-override="$NODE" --node-ip="$NODE_IP"
}

start_registry() { # open or private
    start "registry-$1" env OTEL_TRACES_EXPORTER=none docker-registry serve "$RUN/registry-$1.yml"
}

# UIDs of pods that are no more and whose folders the kubelet still has. It clears them away every two seconds.
ended_pods() {
    local living
    living=$(kubectl get pods --all-namespaces -o 'jsonpath={range .items[*]}{.metadata.uid}{"\n"}{end}') || return
    find "$KUBELET_DIR/pods" -mindepth 1 -maxdepth 1 -printf '%f\n' | grep -vxF "$living" || true
}
no_ended_pods() {
    local ended
    ended=$(ended_pods) && [ -z "$ended" ]
}

# What the programs and the containers of the pods have said is kept in FOLDER; `down` would delete it.
keep_logs() { # FOLDER
    mkdir -p "$1"
    cp -r "$RUN/log" "$1/programs"
    cp -r "$RUN/places/var/log/pods" "$1/containers"
}
