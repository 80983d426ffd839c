#!/bin/bash
# build.sh: makes the cluster's programs, from Go modules alone. Does nothing when they are there.
set -euo pipefail
KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/kube"
[ ! -e "$BIN/complete" ] || exit 0
rm -rf "$CACHE"/bin-*; mkdir -p "$BIN"
V=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' go.mod); C=$(sed -n 's/^\tgithub.com\/containerd\/containerd\/v2 v\([0-9.]*\)$/\1/p' go.mod)
minor=${V#v1.}; minor=${minor%.*}
X=
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  X+=" -X $p.gitVersion=$V -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean -X $p.gitCommit=module -X $p.buildDate=2026-01-01T00:00:00Z"
done
X+=" -X github.com/containerd/containerd/v2/version.Version=$C"
go build -trimpath -tags no_btrfs,no_zfs,no_devmapper,no_tracing -ldflags "-s -w$X" -o "$BIN/" ./cmd/...
for n in etcd kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet containerd ctr; do ln -sf kt "$BIN/$n"; done
touch "$BIN/complete"
