#!/bin/bash
# Only for changing versions: writes go.mod from k8s.io/kubernetes' own list of staging modules, then `go mod tidy`.
# gen-gomod.sh KUBE ETCD CONTAINERD COREDNS, e.g. gen-gomod.sh 36.3 v3.6.8 v2.2.9 v1.13.1
set -euo pipefail
cd "$(dirname "$0")"; V=$1
D=$(cd /tmp && go mod download -json k8s.io/kubernetes@v1.$V | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
{ printf 'module tulle.dev/tests/cluster\n\ngo 1.26.0\n\ngodebug default=go1.26\n\nrequire (\n\tk8s.io/kubernetes v1.%s\n\tgo.etcd.io/etcd/server/v3 %s\n\tgithub.com/containerd/containerd/v2 %s\n\tgithub.com/coredns/coredns %s\n)\n\n' $V $2 $3 $4
  echo 'replace ('; sed -n 's#^\t\(k8s.io/[a-z-]*\) => ./staging/.*#\1#p' $D | while read m; do printf '\t%s => %s v0.%s\n' $m $m $V; done; echo ')'; } > go.mod
rm -f go.sum; go mod tidy
