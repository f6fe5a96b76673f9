#!/bin/bash
# Two hosts on one Linux machine: a process in each of two network namespaces, joined by a pair of virtual cards. Needs root.
#   examples/two_hosts.sh python train tunesmith.yaml out=runs/two train.shard=optimizer
# On two real hosts the same two torchrun lines are run, one on each, with the first one's address.
set -euo pipefail
python=$1
shift
tag=ts$$
cleanup() {
  ip netns del "$tag-a" 2>/dev/null || true
  ip netns del "$tag-b" 2>/dev/null || true
}
trap cleanup EXIT
ip netns add "$tag-a"
ip netns add "$tag-b"
ip link add "${tag}a" netns "$tag-a" type veth peer name "${tag}b" netns "$tag-b"
for side in a b; do
  number=$([ $side = a ] && echo 1 || echo 2)
  ip netns exec "$tag-$side" ip addr add "10.77.0.$number/24" dev "$tag$side"
  ip netns exec "$tag-$side" ip link set "$tag$side" up
  ip netns exec "$tag-$side" ip link set lo up
done
host() { # host SIDE RANK ARGS...
  local side=$1 rank=$2
  shift 2
  GLOO_SOCKET_IFNAME="$tag$side" ip netns exec "$tag-$side" "$python" -m torch.distributed.run --nnodes 2 --node-rank "$rank" \
    --nproc-per-node 1 --master-addr 10.77.0.1 --master-port 29500 -m tunesmith "$@"
}
host b 1 "$@" &
second=$!
host a 0 "$@"
wait "$second"
