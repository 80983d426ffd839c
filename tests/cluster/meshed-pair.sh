#!/bin/bash
# meshed-pair.sh: the programs of this checkout on a real Kubernetes node. `tulle inject` makes the pods' YAML, kubectl
# applies it, the kubelet runs it; the proxy is not root and proves itself by its pod's own token; the control plane
# reads the cluster's objects from a directory. KEEP=1 leaves the cluster up. Closes with how many passed and failed.
set -euo pipefail
NAME=pair; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
HOST=$(rustc -vV | sed -n 's/^host: //p')
PROGRAMS=${CARGO_TARGET_DIR:-target}/$HOST/debug
passed=0 failed=0
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
check() { local what=$1 said; shift; if said=$("$@" 2>&1); then ok "$what"; else bad "$what" "$said"; fi; }
# eventually SECONDS COMMAND…: until it succeeds
eventually() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { "$@"; return; }; sleep 0.2; done; }

"$KT/build.sh"; "$KT/images.sh"
S=$STATE/$NAME; W=$(mktemp -d); loop=
finish() {
  [ -z "$loop" ] || kill "$loop" 2>/dev/null || true
  if [ "${KEEP:-}" = 1 ]; then echo "KUBECONFIG=$S/kubeconfig"; else "$KT/down" "$NAME"; fi
  rm -rf "$W"
}
trap finish EXIT
"$KT/down" "$NAME" >/dev/null; "$KT/up" "$NAME"; export KUBECONFIG=$S/kubeconfig

# --- images: the static programs and nothing else; the init container's also has nft, iptables and ip
deploy/images/build --profile dev --registry registry.local --tag dev --out "$W" >/dev/null
for image in tulle-control-plane tulle-proxy tulle-redirect; do "$KT/in" "$NAME" 1 ctr -n k8s.io images import --local "$W/$image.tar" >/dev/null; done

# --- control plane: a pod that reads the cluster's objects from a directory, which this loop fills
mkdir -p "$S/objects" "$S/output" "$S/keys"; chmod 777 "$S/output"
kubectl get --raw /openid/v1/jwks > "$S/keys/jwks.json"
dump() { kubectl get namespaces,serviceaccounts,pods,services,endpointslices -A -o yaml > "$S/dump.yaml" && { cmp -s "$S/dump.yaml" "$S/objects/all.yaml" || mv "$S/dump.yaml" "$S/objects/all.yaml"; }; }
dump
kubectl apply -f "$KT/pair/control-plane.yaml" >/dev/null
( while sleep 0.2; do dump; for f in "$S"/output/*/*.yaml; do [ ! -e "$f" ] || kubectl apply -f "$f"; done; done ) >"$S/log/loop.log" 2>&1 & loop=$!
check "control plane is ready" kubectl -n tulle-system wait --for=condition=Available deploy/tulle-control-plane --timeout=60s

# --- the pair
"$PROGRAMS/tulle" inject -f "$KT/pair/pair.yaml" --image-registry registry.local --image-tag dev --image-pull-policy Never > "$W/pair.yaml"
kubectl apply -f "$W/pair.yaml" >/dev/null
check "server is ready" eventually 60 kubectl -n pair wait --for=condition=Ready pod/server --timeout=1s
check "client is ready" eventually 60 kubectl -n pair wait --for=condition=Ready pod/client --timeout=1s
get() { kubectl -n pair exec client -c client -- curl -sS -m 5 "http://server:8080/index.html"; }
check "a request crosses the pair" eventually 20 sh -c "kubectl -n pair exec client -c client -- curl -sSf -m 5 http://server:8080/index.html | grep -q hello-from-server"
logged() { kubectl -n pair logs "$1" -c tulle-proxy | grep '"/index.html"' | grep -q "spiffe://cluster.local/ns/pair/sa/$2"; }
check "the client's proxy met the server" eventually 5 logged client server
check "the server's proxy met the client" eventually 5 logged server client
uid() { "$KT/in" "$NAME" 1 sh -c 'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = tulle-proxy ] && sed -n "s/^Uid:\t\([0-9]*\).*/\1/p" $p/status; done' | sort -u; }
check "proxies run as uid 5050" test "$(uid)" = 5050
check "a pod outside of the mesh gets through (permissive)" kubectl -n outside exec stranger -- curl -sSf -m 5 http://server.pair:8080/index.html

[ "$failed" = 0 ] || { kubectl get pods -A -o wide; for p in client server; do kubectl -n pair logs $p -c tulle-redirect | tail -5; kubectl -n pair logs $p -c tulle-proxy | tail -20; done; kubectl -n tulle-system logs deploy/tulle-control-plane | tail -20; tail -5 "$S/log/loop.log"; } || true
echo; echo "$passed passed, $failed failed"; [ "$failed" = 0 ]
