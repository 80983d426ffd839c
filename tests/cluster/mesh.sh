#!/bin/bash
# mesh.sh: the mesh on a real node, as a person would use it: a namespace is labelled, pods get their sidecars from the webhook,
# policy says where it is in force, and the cluster has its bad days under load. Closes with how many passed and failed.
# KEEP, REUSE, KUBECONFIG: meshed.sh.
set -euo pipefail
NAME=${NAME:-mesh}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"; . "$KT/meshed.sh"
cluster 1 shop outside
[ "${REUSE:-}" ] || check "tulle install" tulle install -f "$W/values.yaml" --timeout 90s
k() { kubectl -n shop "$@"; }
get() { k exec client -c client -- curl -sS -m 5 "$@"; }
all_ready() { k wait --for=condition=Ready pod -l '!job-name' --timeout="$1"; }
log() { k logs "$1" -c tulle-proxy; }

# --- injection: the label, and nothing else
kubectl apply -f "$KT/mesh/shop.yaml" >/dev/null
check "pods get their sidecar and become ready" eventually 60 all_ready 1s
says "a request crosses two sidecars" hello-from-server get http://server:8080/index.html
crossed() { log client | has '"/index.html"' spiffe://cluster.local/ns/shop/sa/server && k logs -l app=server -c tulle-proxy --tail=100 | has '"/index.html"' spiffe://cluster.local/ns/shop/sa/client; }
check "each side knows the other" eventually 5 crossed
check "an init container after the sidecar has the network" k logs client -c fetch
says "the application starts after the sidecar and has its own port" 8080 k get pod -l app=server -o 'jsonpath={.items[0].spec.containers[0].ports[0].containerPort}'
check "a Job ends" k wait --for=condition=Complete job/once --timeout=60s
check "without the account's own token" k wait --for=condition=Ready pod/tokenless --timeout=30s
says "a pod that says no gets none" "tokenless-not" sh -c "kubectl -n shop get pod plain -o jsonpath='{.spec.initContainers}' | grep -q tulle || echo tokenless-not"
says "kubectl logs shows the application" "hello-from-app" k logs client
says "kubectl exec enters the application" client k exec client -- cat /etc/hostname
echo some-text > "$W/file"
check "kubectl cp reaches the application" k cp "$W/file" client:/tmp/file
says "… and it is there" some-text k exec client -c client -- cat /tmp/file
uid() { "$KT/in" "$NAME" 1 sh -c 'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = tulle-proxy ] && sed -n "s/^Uid:\t\([0-9]*\).*/\1/p" $p/status; done' | sort -u; }
if [ "$OWN" ]; then check "sidecars run as uid 5050" test "$(uid)" = 5050; else skip "the uid of sidecars" "this cluster's nodes cannot be looked into"; fi
refuses "a wrong annotation is refused with what is right" 'is no port; write for example 22,9090' k apply -f "$KT/mesh/wrong-annotation.yaml"
says "a pod on the node's network is let through with a word" "it uses the node's network" k apply -f "$KT/mesh/host-network.yaml"
k delete -f "$KT/mesh/host-network.yaml" --wait=false >/dev/null
says "an unknown annotation is named, with the nearest" "is tulle.dev/exclude-inbound-ports meant?" k apply -f "$KT/mesh/unknown-annotation.yaml"
k delete -f "$KT/mesh/unknown-annotation.yaml" --wait=false >/dev/null

# --- somebody else changes pods after us
ports() { kubectl "$@" -f "$KT/mesh/late-pod.yaml" -o 'jsonpath={.spec.containers[*].name} {.spec.containers[*].readinessProbe.httpGet.port}'; }
if said=$(kubectl apply -f "$KT/mesh/late.yaml" 2>&1); then
  check "a container that comes later is probed by the sidecar, too" eventually 20 contains "app late 15021 15021" ports create --dry-run=server
  ports create >/dev/null; check "… and is ready by that" eventually 30 k wait --for=condition=Ready pod/late --timeout=1s
  k delete pod late --wait=false >/dev/null; kubectl delete -f "$KT/mesh/late.yaml" >/dev/null
elif [ "$OWN" ]; then bad "a container that comes later" "$said"
else skip "a container that comes later" "this cluster has no MutatingAdmissionPolicy of v1"; fi

# --- policy and its status
says "plaintext from outside is allowed" hello-from-server kubectl -n outside exec stranger -- curl -sSf -m 5 http://server.shop:8080/index.html
sidecars() { k get pod --field-selector=status.phase=Running -o 'jsonpath={.items[*].spec.initContainers[*].name}' | tr ' ' '\n' | grep -c '^tulle-proxy$'; }
# whole NAME FILE: a new MeshTLS comes into force, and from before there is one it is never said to be on fewer than all proxies
whole() {
  local n watch; n=$(sidecars)
  k get meshtls -w -o 'jsonpath={.metadata.name} {.status.conditions[?(@.type=="InForce")].status} {.status.inForce}{"\n"}' > "$W/said" & watch=$!
  kubectl apply -f "$2" >/dev/null
  check "$1 is in force" k wait --for=condition=InForce "meshtls/$1" --timeout=20s
  check "… on all proxies" eventually 5 grep -qx "$1 True $n/$n" "$W/said"
  kill "$watch"; wait "$watch" 2>/dev/null || true
  check "… and was not before all had it" fails sh -c "grep '^$1 True' '$W/said' | grep -v ' $n/$n$'"
}
whole strict "$KT/mesh/strict.yaml"
refuses "plaintext from outside is refused then" "curl: (" kubectl -n outside exec stranger -- curl -sS -m 5 http://server.shop:8080/index.html
says "and the mesh goes on" hello-from-server get http://server:8080/index.html
# the example of docs/injection.md, with an application that there is here
sed -n '/^<!-- measured/,/^```$/p' docs/injection.md | sed '/^<!--/d; /^```/d; s|image: registry.example.org/app:1|image: "registry.local/busybox:1"\n    imagePullPolicy: Never\n    command: [sh, -c, "mkdir /tmp/w; echo requests 7 > /tmp/w/metrics; httpd -p 9090 -h /tmp/w; exec httpd -f -p 8080 -h /tmp/w"]|' > "$W/measured.yaml"
kubectl apply -f "$W/measured.yaml" >/dev/null
check "a pod with an exempted port is ready" k wait --for=condition=Ready pod/measured --timeout=60s
scrape() { kubectl -n outside exec stranger -- curl -sSf -m 5 "http://$(k get pod measured -o 'jsonpath={.status.podIP}'):$1/metrics"; }
says "a Prometheus outside of the mesh reads its metrics" "requests 7" scrape 9090
refuses "… and nothing else of it" "curl: (" scrape 8080
k delete pod measured --grace-period=1 --wait=false >/dev/null
k wait --for=delete pod/host-network pod/unknown-annotation pod/measured --timeout=60s >/dev/null # `all_ready` would not find them ready
check "the kubelet's probes work all the same" all_ready 10s
kubectl apply -f "$KT/mesh/policy.yaml" >/dev/null
check "a TrafficPolicy is in force" k wait --for=condition=InForce trafficpolicy/server --timeout=20s
soon "on as many proxies as use it" "1/1" k get trafficpolicy server -o 'jsonpath={.status.inForce}'
says "tulle wait says so" "TrafficPolicy shop/server: in force on 1 of 1 proxies" sh -c "kubectl -n shop get trafficpolicy server -o yaml | $PROGRAMS/tulle wait -f -"
refuses "tulle wait says what is missing" "TrafficPolicy shop/lost: not within 1s: Accepted is False (TargetNotFound): there is no Service shop/nobody" "$PROGRAMS/tulle" wait -f "$KT/mesh/policy.yaml" --timeout 1s
soon "what has no target says so" "there is no Service shop/nobody" k get trafficpolicy lost -o 'jsonpath={.status.conditions[?(@.type=="Accepted")].message}'
soon "… and an Event of it does" "there is no Service shop/nobody" k get events --field-selector=involvedObject.name=lost,reason=TargetNotFound
kubectl apply -f "$KT/mesh/routes.yaml" >/dev/null
route() { k get httproute "$1" -o "jsonpath={.status.parents[0].conditions[?(@.type=='Accepted')]['status','reason','message']}"; }
soon "a new route that does not apply says so" "False Invalid HTTPRoute shop/wrong: spec.rules[0].matches[0].path.value" route wrong
soon "… and an Event of it does" "spec.rules[0].matches[0].path.value" k get events --field-selector=involvedObject.name=wrong,reason=Invalid
says "of a route of a Gateway nothing is said" "no status" sh -c "kubectl -n shop get httproute theirs -o 'jsonpath=no status{.status}.' | grep -x 'no status.'"
says "… nor waited for" "HTTPRoute shop/theirs: is there" sh -c "kubectl -n shop get httproute theirs -o yaml | $PROGRAMS/tulle wait -f - --timeout 1s"
refused() { kubectl -n tulle-system logs deploy/tulle-control-plane | has "cannot be written"; }
check "and no status was refused" fails refused
generation() { k get trafficpolicy server -o 'jsonpath={.metadata.generation} {.status.conditions[?(@.type=="InForce")].observedGeneration}'; }
k patch trafficpolicy server --type=merge -p '{"spec":{"timeouts":{"request":"7s"}}}' >/dev/null
soon "an edit is in force, and the status is about it" "2 2" generation

# --- who sees what of it
. "$KT/mesh/people.sh"

# --- where endpoints are
read -r a b <<<"$(k get pod -l app=server -o 'jsonpath={.items[*].status.podIP}')"
node=$(kubectl get node -o 'jsonpath={.items[0].metadata.name}')
sed "s/\[A\]/[$a]/; s/\[B\]/[$b]/; s/NODE/$node/" "$KT/mesh/near.yaml" | kubectl apply -f - >/dev/null
kubectl label node "$node" topology.kubernetes.io/zone=here >/dev/null
# served NAME: by whom, of 10 requests
served() { get "http://$1:8080/near-$1?[1-10]" >/dev/null; log client | grep "\"/near-$1" | sed -n 's/.*"upstream":"\([^":]*\):.*/\1/p' | tail -n 10 | sort | uniq -c | tr -d '\n'; }
only() { local by; by=$(served "$1"); [ "$(echo $by)" = "10 $2" ] || { echo "$by"; return 1; }; }
check "internalTrafficPolicy Local: the endpoint on the own node, and no other" eventually 20 only local "$a"
says "… none there: none" 503 get -o /dev/null -w '%{http_code}' http://away:8080/
check "hints for zones: the endpoint for the node's zone" eventually 20 only zonal "$b"

# --- how long a pod's end is waited for
kubectl apply -f "$KT/mesh/draining.yaml" >/dev/null
check "a pod that says how long is ready" k wait --for=condition=Ready pod/draining --timeout=60s
get -m 30 http://draining:8080/cgi-bin/slow >/dev/null 2>&1 & asking=$!
check "a request is open" eventually 20 k exec draining -c server -- test -e /tmp/asked
begun=$SECONDS; k delete pod draining >/dev/null; took=$((SECONDS - begun)); wait $asking || true
check "it ends after so long, and not after a third of its grace period: $took s" test "$took" -ge 3 -a "$took" -lt 10

# --- stock Envoy in the sidecar's place: the same program as in its own image, on this machine's libraries
deploy/samples/bookstore/programs
envoy=$(realpath "${XDG_CACHE_HOME:-$HOME/.cache}/tulle/programs/bin/envoy")
deploy/images/collect "$W/envoy" "$envoy"; mkdir -p "$W/envoy/usr/bin"; ln -s "$envoy" "$W/envoy/usr/bin/envoy"
python3 deploy/images/pack.py "$W/envoy.tar" registry.local/envoy:1 "$W/envoy" --entry '["envoy"]'
load_images "$W/envoy.tar" >/dev/null; rm -rf "$W/envoy" "$W/envoy.tar"
kubectl apply -f "$KT/mesh/envoy.yaml" >/dev/null
check "pods behind stock Envoy are ready" k wait --for=condition=Ready pod/enveloped pod/asking --timeout=60s
check "a request goes from our sidecar to Envoy" eventually 20 contains hello-from-behind-envoy get http://enveloped:8080/index.html
enveloped() { log client | has '"host":"enveloped:8080"' spiffe://cluster.local/ns/shop/sa/server; }
check "… over mTLS" eventually 5 enveloped
asking() { k exec asking -c client -- curl -sSf -m 5 "$@"; }
check "and from Envoy to our sidecar" eventually 20 contains hello-from-server asking http://server:8080/index.html
asked() { k logs -l app=server -c tulle-proxy --tail=100 | has '"/index.html"' '"peer_pod":"shop/asking"'; }
check "… over mTLS" eventually 5 asked
# near NAME N: of 10 requests of Envoy's, all come to the Nth of the server's pods
near() {
  local path="behind-envoy-$RANDOM" pod; asking -o /dev/null "http://$1:8080/$path?[1-10]" 2>/dev/null || true
  pod=$(k get pod -l app=server -o "jsonpath={.items[$2].metadata.name}")
  [ "$(k logs "$pod" -c tulle-proxy | grep -c "\"/$path")" = 10 ]
}
check "Local holds behind Envoy" eventually 20 near local 0
soon "… none there: none" 503 asking -o /dev/null -w "%{http_code}" http://away:8080/
check "… and hints for zones" eventually 20 near zonal 1
refuses "Strict holds at Envoy, too" "curl: (" kubectl -n outside exec stranger -- curl -sSf -m 5 http://enveloped.shop:8080/index.html
says "tulle proxy status has both" 2 sh -c "$PROGRAMS/tulle proxy status | grep -cE '^shop/(asking|enveloped) '"
k delete -f "$KT/mesh/envoy.yaml" --timeout=60s >/dev/null

# --- opaque connections
kubectl apply -f "$KT/mesh/tcp.yaml" >/dev/null
check "opaque connections go where a TCPRoute says" eventually 20 contains hello-from-server get http://opaque:9000/index.html
soon "where it is in force" "in force on 1 of 1 proxies" k get tcproute opaque -o 'jsonpath={.status.parents[0].conditions[?(@.type=="InForce")].message}'
refuses "a share that leads nowhere is refused" "curl: (" get http://opaque:9001/index.html
soon "what it cannot do is said" "there is no Service shop/nobody" k get tcproute lost -o 'jsonpath={.status.parents[0].conditions[?(@.type=="ResolvedRefs")].message}'

kubectl apply -f "$KT/mesh/tls.yaml" >/dev/null
version() { get -k --connect-to ::named:443 "https://$1/version"; }
check "TLS goes where a TLSRoute says, by the server's name" eventually 20 contains gitVersion version v.api.example
refuses "… and for no other name" "curl: (" version v.other.example
soon "where it is in force" "in force on 1 of 1 proxies" k get tlsroute named -o 'jsonpath={.status.parents[0].conditions[?(@.type=="InForce")].message}'

# --- the cluster's bad days: the load goes on all the while, and nothing fails; more of them in days.sh
# in the pod by itself: what kubectl exec starts ends with the API server
load() { k exec client -c client -- sh -c 'rm -f /tmp/stop /tmp/done; (while [ ! -e /tmp/stop ]; do curl -s -o /dev/null -m 10 --rate 100/s -w "%{http_code}\n" "http://server:8080/index.html?[1-100]"; done > /tmp/load; touch /tmp/done) > /dev/null 2>&1 < /dev/null &'; }
unload() { # WHAT
  eventually 60 k exec client -c client -- sh -c 'touch /tmp/stop; until [ -e /tmp/done ]; do sleep 0.1; done'
  k exec client -c client -- cat /tmp/load > "$W/load"
  local answers wrong; answers=$(grep -c . "$W/load") wrong=$(grep -vc '^200$' "$W/load" || true)
  check "$1: 0 of $answers failed" test "$wrong" = 0 -a "$answers" -gt 50
}
replicas() { kubectl -n tulle-system get pod -l app.kubernetes.io/name=tulle-control-plane -o name; }
streams_at() { kubectl get --raw "/api/v1/namespaces/tulle-system/pods/$(basename "$1"):15014/proxy/metrics" | sed -n 's/^tulle_xds_streams.*} //p' | awk '{n += $1} END {print n + 0}'; }
streams() { [ "$(streams_at "$(replicas | head -n 1)")" -ge "$1" ]; }
each_has_streams() { local replica; for replica in $(replicas); do [ "$(streams_at "$replica")" -ge 1 ] || return 1; done; }

load; k rollout restart deployment/server >/dev/null; check "a rollout ends" k rollout status deployment/server --timeout=60s; unload "rollout"
load; kubectl -n tulle-system delete pod --all --grace-period=0 --force >/dev/null 2>&1; sleep 3; unload "no control plane"
check "it comes back, and the sidecars to it" eventually 60 streams 4
if [ "$OWN" ]; then load; "$KT/restart" "$NAME" kube-apiserver; unload "API server restarted"
else skip "API server restarted" "this cluster's is not for a test to kill"; fi
check "the API server is back" eventually 60 kubectl get --raw /readyz
k patch trafficpolicy server --type=merge -p '{"spec":{"timeouts":{"request":"8s"}}}' >/dev/null
soon "and what is edited then is in force" "3 3" generation
kubectl -n tulle-system scale deployment tulle-control-plane --replicas=2 >/dev/null
check "two replicas" kubectl -n tulle-system rollout status deployment/tulle-control-plane --timeout=60s
holder() { kubectl -n tulle-system get lease tulle-control-plane -o jsonpath='{.spec.holderIdentity}'; }
soon "one of them holds the Lease" tulle-control-plane- holder
check "proxies spread over both" eventually 60 each_has_streams
n=$(sidecars); in_force() { k get meshtls strict -o 'jsonpath={.status.inForce}'; }
soon "a status counts those of both" "$n/$n" in_force
whole exception "$KT/mesh/exception.yaml"
old=$(holder); kubectl -n tulle-system delete pod "$old" --grace-period=0 --force >/dev/null 2>&1
other() { local now; now=$(holder); [ -n "$now" ] && [ "$now" != "$old" ]; }
check "killed, another one takes it" eventually 30 other
k patch trafficpolicy server --type=merge -p '{"spec":{"timeouts":{"request":"9s"}}}' >/dev/null
soon "and writes what is in force" "4 4" generation
check "proxies spread over it and a new one" eventually 60 each_has_streams
soon "and are all counted" "$n/$n" in_force

# --- a root of the user's own, in one step: everybody trusts both before the new one signs, and until the last certificate of the old has ended
bank() { # an intermediate below a root of its own, as the Secret
  (cd "$W"; exec 2>/dev/null
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out ca.crt -subj /CN=bank -days 30 -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=branch
  printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' > ca.ext
  openssl x509 -req -in tls.csr -CA ca.crt -CAkey root.key -CAcreateserial -out tls.crt -extfile ca.ext -days 20)
  kubectl -n tulle-system create secret generic tulle-ca --type=kubernetes.io/tls --from-file="$W/tls.crt" --from-file="$W/tls.key" --from-file="$W/ca.crt" --dry-run=client -o yaml
}
# trust NAMES: the roots that each sidecar trusts, first the one that signs. A kubelet brings a changed ConfigMap within a minute or
# two, to a pod that has changed at once.
trust() {
  local pod; k annotate pod --all --overwrite "tried=$SECONDS" >/dev/null
  for pod in $(k get pod --field-selector=status.phase=Running -o 'jsonpath={range .items[?(@.metadata.annotations.tulle\.dev/injected)]}{.metadata.name} {end}'); do
    [ "$(tulle proxy config "shop/$pod" certs | sed -n 's/^root .*CN=\([^,]*\), valid.*/\1/p' | paste -sd+)" = "$1" ] || { tulle proxy config "shop/$pod" certs; return 1; }
  done
}
system() { kubectl -n tulle-system "$@"; }
over() { # the time of the old root, as if it had come
  system get configmap tulle-roots -o json | python3 -c 'import json, sys; it = json.load(sys.stdin); record = json.loads(it["data"]["roots.json"]); [root.update(until="2020-01-01T00:00:00Z") for root in record["roots"] if "until" in root]; print(json.dumps({"data": {"roots.json": json.dumps(record)}}))' > "$W/over"
  system patch configmap tulle-roots --type=merge --patch-file "$W/over"
}
system patch deployment tulle-control-plane --type=json -p '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--root-overlap=60s"}]' >/dev/null
check "a new root is to be trusted for 60 s before it signs" system rollout status deployment/tulle-control-plane --timeout=60s
soon "one root is trusted" '"signs": true' system get configmap tulle-roots -o 'jsonpath={.data.roots\.json}'
bank > "$W/bank.yaml"; load; kubectl apply -f "$W/bank.yaml" >/dev/null 2>&1
# its successor has no key of the old root
soon "a replica holds the Lease" tulle-control-plane- holder; system delete pod "$(holder)" --grace-period=0 --force >/dev/null 2>&1
check "another root in one step: everybody trusts both, the old one signs" eventually 60 trust "cluster.local root+bank"
check "… then the new one signs, and both are trusted" eventually 90 trust "bank+cluster.local root"
check "… tulle check finds nothing wrong with the roots" fails contains roots- tulle check
check "… the old one's time is over" eventually 10 over
check "… the new one alone is trusted" eventually 60 trust bank
k rollout restart deployment/server >/dev/null; check "… and new pods are known by it" k rollout status deployment/server --timeout=60s
unload "another root in one step"
system scale deployment tulle-control-plane --replicas=1 >/dev/null

# --- a pod that was there before its namespace asked for sidecars
kubectl label namespace outside tulle.dev/inject=enabled >/dev/null
soon "an Event names a pod that runs without a sidecar" "it runs without a sidecar" kubectl -n outside get events --field-selector=involvedObject.name=stranger,reason=NotInjected

[ "$failed" = 0 ] || { kubectl get pods -A -o wide; k get events | tail -20; for p in client; do log $p | tail -20; done; kubectl -n tulle-system logs deploy/tulle-control-plane | tail -30; } || true
close
