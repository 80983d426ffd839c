#!/bin/bash
# cni.sh: tulle-cni on a real node: pods under Pod Security `restricted` are in the mesh; those that started before it are
# repaired; the network's configuration is, when somebody writes it anew; and nothing of it is left. Closes with how many
# passed and failed. KEEP, KUBECONFIG: meshed.sh; CNI: where the nodes of such a cluster have their plugins, as values have it.
set -euo pipefail
NAME=${NAME:-cni}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"; . "$KT/meshed.sh"
cluster 1 shop outside # tulle-cni's image comes later
k() { kubectl -n shop "$@"; }
node() { "$KT/in" "$NAME" 1 "$@"; }
NODES="this cluster's nodes cannot be entered"
[ -z "$OWN" ] || CNI='binDir: /run/cni/bin, confDir: /run/cni/net.d'
echo "cni: {${CNI:-}}" >> "$W/values.yaml"
if [ "$OWN" ]; then
  LIST=/run/cni/net.d/10-kt.conflist
  node mkdir -p /run/cni/bin
  # what is in the node's folders, to the byte
  folders() { node sh -c 'cd /run/cni && find bin net.d | sort && sha256sum net.d/*'; }
  folders > "$W/before"; node cat $LIST > "$W/list"
fi

# --- without it
check "tulle install" tulle install -f "$W/values.yaml" --timeout 90s
kubectl create -f - >/dev/null <<Y
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {tulle.dev/inject: enabled, pod-security.kubernetes.io/enforce: restricted}}}
Y
eventually 20 sh -c 'kubectl get mutatingwebhookconfiguration tulle-injector -o jsonpath="{.webhooks[*].name}" | grep -q .'
refuses "without it, a restricted namespace takes no pod with a sidecar" 'violates PodSecurity "restricted:latest"' k apply -f "$KT/cni/client.yaml"
refuses "… because of the init container's rights" 'container "tulle-redirect" must not include "NET_ADMIN", "NET_RAW"' k apply -f "$KT/cni/client.yaml"

# --- pods that start before it. On a cluster that is not ours the nodes may have its image of an earlier run: nobody waits then.
there=; image=registry.local/tulle-cni:dev
if [ -z "$OWN" ] && kubectl get nodes -o 'jsonpath={.items[*].status.images[*].names}' | grep -F "$image" >/dev/null; then there="the nodes have $image already"; fi
early() { if [ "$there" ]; then skip "$2" "$there"; else "$@"; fi; }
says "tulle upgrade brings it" "create  DaemonSet kube-system/tulle-cni" tulle upgrade -f "$W/values.yaml" --set cni.enabled=true --timeout 90s
check "with it, restricted takes them" k apply -f "$KT/cni/client.yaml" -f "$KT/cni/server.yaml"
waits() { k logs "$1" -c tulle-redirect | has "waiting until tulle-cni redirects this pod's traffic to its sidecar"; }
early check "a pod that started before it waits, and says for what" eventually 30 waits client
early check "its application does not start" test "$(k get pod client -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}')" = PodInitializing
kubectl create namespace outside >/dev/null
check "pods that are not of the mesh start as ever" kubectl -n outside run stranger --image=registry.local/nettools:1 --image-pull-policy=Never -- /bin/sleep 3600
check "… and are ready" kubectl -n outside wait --for=condition=Ready pod/stranger --timeout=30s
load_images "$BUILT/tulle-cni.tar" >/dev/null
kubectl -n kube-system delete pod -l app.kubernetes.io/name=tulle-cni --wait=false >/dev/null # not to wait for the kubelet's back-off
check "tulle-cni comes up, and is ready" kubectl -n kube-system rollout status daemonset/tulle-cni --timeout=60s
check "pods that waited are repaired, and start" k wait --for=condition=Ready pod/client pod/server --timeout=60s
agent() { kubectl -n kube-system logs -l app.kubernetes.io/name=tulle-cni --tail=-1; }
early says "the agent says so" "a pod that waited is redirected" agent

# --- the mesh
get() { k exec client -c client -- curl -sS -m 5 http://server:8080/index.html; }
check "a request crosses two sidecars" eventually 20 get
at() { k logs "$1" -c tulle-proxy | has '"/index.html"' "spiffe://cluster.local/ns/shop/sa/$2"; }
known() { at client server && at server callers; }
check "each side knows the other" eventually 5 known
says "plaintext from outside is allowed" hello-from-server kubectl -n outside exec stranger -- curl -sSf -m 5 "http://server.shop:8080/index.html"
k apply -f "$KT/mesh/strict.yaml" >/dev/null
check "strict is in force" k wait --for=condition=InForce meshtls/strict --timeout=20s
refuses "plaintext from outside is refused then" "curl: (" kubectl -n outside exec stranger -- curl -sS -m 5 "http://server.shop:8080/index.html"
says "and the mesh goes on" hello-from-server get

# --- the plugin needs nobody; the agent repairs
repairs() { agent | grep -c "a pod that waited is redirected" || true; }
before=$(repairs)
if [ "$OWN" ]; then
  pid() { node sh -c 'for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = tulle-cni ] && tr "\0" " " <$p/cmdline | grep -q " agent "; then echo ${p#/proc/}; fi; done'; }
  named() { sed "s/{name: client/{name: $1/" "$KT/cni/client.yaml"; }
  frozen=$(pid); node kill -STOP "$frozen"
  named early | k apply -f - >/dev/null
  check "the agent stands still: a pod of the mesh starts, redirected by the plugin" k wait --for=condition=Ready pod/early --timeout=60s
  node sh -c "cat > $LIST" < "$W/list"
  named late | k apply -f - >/dev/null
  check "somebody writes the network's configuration anew: a pod of the mesh waits" eventually 30 waits late
  check "others start as ever" kubectl -n outside run other --image=registry.local/pause:1 --image-pull-policy=Never
  check "… and are ready" kubectl -n outside wait --for=condition=Ready pod/other --timeout=30s
  node kill -CONT "$frozen"
  check "the agent is back: the pod is repaired" k wait --for=condition=Ready pod/late --timeout=60s
  check "… and no other had to be" test "$(repairs)" = $((before + 1))
  check "the network's configuration has the plugin again" eventually 5 node grep -q tulle-cni $LIST
  before=$((before + 1))
else skip "the agent stands still" "$NODES"; skip "somebody writes the network's configuration anew" "$NODES"; fi
check "the agent is ready" kubectl -n kube-system wait --for=condition=Ready pod -l app.kubernetes.io/name=tulle-cni --timeout=30s

# --- dns: the pod's own resolvers, by the plugin
sed 's/{name: client/{name: asking/; s/annotations: {/annotations: {tulle.dev\/dns: "true", /' "$KT/cni/client.yaml" | k apply -f - >/dev/null
check "a pod whose sidecar answers DNS" k wait --for=condition=Ready pod/asking --timeout=60s
check "… is redirected by the plugin, too" test "$(repairs)" = "$before"
check "… and finds names" eventually 10 k exec asking -c client -- curl -sSf -m 5 http://server:8080/index.html

# --- it goes
check "tulle uninstall" tulle uninstall --force
if [ "$OWN" ]; then
  folders > "$W/after"
  check "the node's folders are as they were" diff "$W/before" "$W/after"
else skip "the node's folders are as they were" "$NODES"; fi
check "pods start as ever" kubectl -n outside run after --image=registry.local/pause:1 --image-pull-policy=Never
check "… and are ready" kubectl -n outside wait --for=condition=Ready pod/after --timeout=30s
check "pods of the mesh can go" kubectl delete namespace shop --timeout=90s

[ "$failed" = 0 ] || { kubectl get pods -A -o wide; agent | tail -20; kubectl -n shop describe pods | tail -60; [ -z "$OWN" ] || node cat $LIST; } || true
close
