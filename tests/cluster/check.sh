#!/bin/bash
# check.sh: `tulle check` on a real node. It is silent on a healthy cluster; each planted breakage it names, and nothing else,
# and when that is undone it is silent again. Closes with how many passed and failed.
# ONLY=REGEX plants some; KEEP, REUSE, KUBECONFIG: meshed.sh.
set -euo pipefail
NAME=${NAME:-check}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"; . "$KT/meshed.sh"
cluster 1 shop empty outside
k() { kubectl "$@" >/dev/null; }
system() { kubectl -n tulle-system "$@"; }

# found: what check finds, a line each: CODE OBJECT
found() { tulle check "$@" -o json | python3 -c 'import json, sys
for finding in sorted({(f["code"], f["object"]) for f in json.load(sys.stdin)["findings"]}): print(*finding)'; }
finds() { local expected=$1 said; shift; said=$(found "$@" 2>&1) || true; [ "$said" = "$expected" ] || { printf 'it finds:\n%s\nnot:\n%s\n' "$said" "$expected"; return 1; }; }
quiet() { finds ""; }

own() { [ "$OWN" ] || { skip "$1" "$2"; return 1; }; }
KINDS="kinds of Gateway API are not for a test to change here"
if [ -z "${REUSE:-}" ]; then
  refuses "without Tulle it says so" "Tulle is not in this cluster" tulle check
  check "and that it can be installed" tulle check --pre
  if own "old kinds of Gateway API before an installation" "$KINDS"; then
    sed 's/bundle-version: v1.6.3/bundle-version: v1.0.0/' deploy/gateway-api/httproutes.yaml | k create -f -
    check "but not with old kinds of Gateway API" finds "kind-old CustomResourceDefinition httproutes.gateway.networking.k8s.io" --pre
    k delete -f deploy/gateway-api/httproutes.yaml
  fi
  check "tulle install" tulle install -f "$W/values.yaml" --timeout 90s
  webhooks() { kubectl get mutatingwebhookconfiguration tulle-injector -o 'jsonpath={.webhooks[*].name}' | has inject; }
  check "the webhook is there" eventually 30 webhooks
  k apply -f "$KT/check.yaml"
  check "pods become ready" eventually 60 kubectl wait -n shop --for=condition=Ready pod --all --timeout=1s
fi
check "healthy: it finds nothing" eventually 30 quiet
says "healthy: and says so" "all is well" tulle check

# --- into sidecars
check "tulle proxy status: all are in sync" eventually 20 tulle proxy status
says "tulle proxy status: a line each" "shop/client" tulle proxy status
says "tulle proxy config asks the sidecar of a cluster" "spiffe://cluster.local/ns/shop/sa/default" tulle proxy config shop/client certs
says "tulle proxy config: by the beginning of the name" '"identity"' tulle proxy config server -o json
refuses "tulle proxy config: no such pod" "the cluster has no pod nobody with a sidecar" tulle proxy config nobody
kubectl -n outside annotate pod stranger tulle.dev/injected=0 >/dev/null
refuses "tulle proxy status: and who has no stream" "no stream" tulle proxy status
kubectl -n outside annotate pod stranger tulle.dev/injected- >/dev/null

# breaks WHAT EXPECTED PLANT UNDO: the last two are shell text, and EXPECTED may have some. What the control plane or a kubelet
# puts right by itself is planted again. own_breaks: only on a cluster of ours.
own_breaks() { local why=$1; shift; [[ "$1 $2" =~ ${ONLY:-.} ]] || return 0; own "$1" "$why" || return 0; breaks "$@"; }
breaks() {
  local what=$1 expected=$2 plant=$3 undo=$4 try said
  [[ "$what $expected" =~ ${ONLY:-.} ]] || return 0
  for try in 1 2 3; do
    eval "$plant" >/dev/null || { said="it cannot be planted"; break; }
    said=$(finds "$(eval "echo \"$expected\"")") && break
  done
  if [ "$said" ]; then bad "$what" "$said"; else ok "$what"; fi
  eval "$undo" >/dev/null || bad "$what: it cannot be undone"
  eventually 40 quiet || bad "$what: undone, and" "$(finds "")"
}
# saved KIND NAME [-n NAMESPACE]: writes it down; restored brings it back as it was
saved() { kubectl get "$@" -o json | python3 -c 'import json, sys
object = json.load(sys.stdin); object.pop("status", None)
for field in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"): object["metadata"].pop(field, None)
json.dump(object, sys.stdout)' > "$W/saved"; }
again() { kubectl replace -f "$1" 2>/dev/null || kubectl create -f "$1"; }
restored() { again "$W/saved"; }
patch() { kubectl patch --type=json -p "$1" "${@:2}"; }
make() { kubectl apply -f -; }

# --- injection
WEBHOOK="MutatingWebhookConfiguration tulle-injector"; INJECTOR="mutatingwebhookconfiguration tulle-injector"
saved $INJECTOR; cp "$W/saved" "$W/injector"
injector() { again "$W/injector"; }
other=$(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=other -days 30 2>/dev/null | base64 -w0)
breaks "webhook: the caBundle of somebody else" "webhook-ca $WEBHOOK" 'patch "[{\"op\":\"replace\",\"path\":\"/webhooks/0/clientConfig/caBundle\",\"value\":\"$other\"}]" $INJECTOR' injector
breaks "webhook: the wrong port" "webhook-wrong $WEBHOOK" 'patch "[{\"op\":\"replace\",\"path\":\"/webhooks/0/clientConfig/service/port\",\"value\":444}]" $INJECTOR' injector
breaks "webhook: it is ignored" "webhook-wrong $WEBHOOK" 'patch "[{\"op\":\"replace\",\"path\":\"/webhooks/0/failurePolicy\",\"value\":\"Ignore\"}]" $INJECTOR' injector
breaks "webhook: a selector that leaves namespaces out" "webhook-wrong $WEBHOOK" 'patch "[{\"op\":\"replace\",\"path\":\"/webhooks/0/namespaceSelector\",\"value\":{\"matchLabels\":{\"a\":\"b\"}}}]" $INJECTOR' injector
breaks "webhook: empty" "webhook-empty $WEBHOOK" 'patch "[{\"op\":\"remove\",\"path\":\"/webhooks\"}]" $INJECTOR' injector
breaks "webhook: gone" "webhook-missing $WEBHOOK" 'kubectl delete $INJECTOR' injector
breaks "injection.yaml that cannot be" "injection-broken ConfigMap tulle-system/tulle-injection" 'saved configmap tulle-injection -n tulle-system; system patch configmap tulle-injection -p "{\"data\":{\"injection.yaml\":\"dns: perhaps\"}}"' restored

# --- rights
ROLE="ClusterRole tulle-control-plane"
breaks "a verb is missing" "right-missing $ROLE" 'saved clusterrole tulle-control-plane; sed "s/\"patch\"/\"get\"/" "$W/saved" | kubectl replace -f -' restored
breaks "a binding is missing" "binding-missing RoleBinding tulle-system/tulle-control-plane" 'saved rolebinding tulle-control-plane -n tulle-system; system delete rolebinding tulle-control-plane' restored

# --- trust
certificates() { # an intermediate that has expired, in the form of the Secret
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$W/root.key" -out "$W/root.crt" -subj /CN=root -days 30 \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$W/tls.key" -out "$W/tls.csr" -subj /CN=intermediate
  printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n' > "$W/ca.ext"
  openssl x509 -req -in "$W/tls.csr" -CA "$W/root.crt" -CAkey "$W/root.key" -CAcreateserial -out "$W/tls.crt" -extfile "$W/ca.ext" -days "$1"
} 2>/dev/null
secret() { system create secret generic tulle-ca --from-file=tls.crt="$W/tls.crt" --from-file=tls.key="$1" --from-file=ca.crt="$W/root.crt" --dry-run=client -o json | kubectl replace --force -f -; }
breaks "an expired intermediate" "ca-broken Secret tulle-system/tulle-ca" 'saved secret tulle-ca -n tulle-system; certificates -1; secret "$W/tls.key"' 'kubectl replace --force -f "$W/saved"'
breaks "the key of another certificate" "ca-broken Secret tulle-system/tulle-ca" 'saved secret tulle-ca -n tulle-system; certificates 20; secret "$W/root.key"' 'kubectl replace --force -f "$W/saved"'
breaks "the root is gone" "ca-missing Secret tulle-system/tulle-ca" 'saved secret tulle-ca -n tulle-system; system delete secret tulle-ca' restored
breaks "other roots in a namespace" "roots-wrong ConfigMap shop/tulle-roots" 'saved configmap tulle-roots -n shop; kubectl -n shop patch configmap tulle-roots -p "{\"data\":{\"roots.pem\":\"none\"}}"' restored
breaks "no roots in a namespace" "roots-missing ConfigMap shop/tulle-roots" 'saved configmap tulle-roots -n shop; kubectl -n shop delete configmap tulle-roots' restored

# --- the way to the control plane
SERVICE="Service tulle-system/tulle-control-plane"
breaks "the Service selects nobody" "service-wrong $SERVICE" 'saved service tulle-control-plane -n tulle-system; system patch service tulle-control-plane -p "{\"spec\":{\"selector\":{\"app.kubernetes.io/name\":\"tulle\"}}}"' 'kubectl apply --server-side --force-conflicts -f "$W/saved"'
breaks "the Service leads to the wrong port" "service-wrong $SERVICE" 'patch "[{\"op\":\"replace\",\"path\":\"/spec/ports/2/targetPort\",\"value\":15010}]" service tulle-control-plane -n tulle-system' 'patch "[{\"op\":\"replace\",\"path\":\"/spec/ports/2/targetPort\",\"value\":\"https-webhook\"}]" service tulle-control-plane -n tulle-system'
node() { "$KT/in" "$NAME" 1 "$@"; }
POD="Pod tulle-system/$(system get pod -l app.kubernetes.io/name=tulle-control-plane -o jsonpath='{.items[0].metadata.name}')"
block() { node nft "add table inet blocked; add chain inet blocked out { type filter hook output priority 0; }; add rule inet blocked out tcp dport $1 reject with tcp reset"; }
NODES="this cluster's nodes cannot be entered"
own_breaks "$NODES" "a blocked port: the webhook's" "port-blocked $POD" 'block 15017' 'node nft delete table inet blocked'
own_breaks "$NODES" "a blocked port: certificates and configuration" "port-blocked $POD" 'block 15010' 'node nft delete table inet blocked'
breaks "a NetworkPolicy around the control plane" "networkpolicy NetworkPolicy tulle-system/closed" 'make <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed, namespace: tulle-system}, spec: {podSelector: {}}}"' 'system delete networkpolicy closed'
breaks "a NetworkPolicy that lets pods in, but not the API server" "networkpolicy NetworkPolicy tulle-system/closed" 'make <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed, namespace: tulle-system}, spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}}"' 'system delete networkpolicy closed'
breaks "a NetworkPolicy around pods" "networkpolicy NetworkPolicy shop/closed" 'make <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed, namespace: shop}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}, {to: [{podSelector: {}}]}]}}"' 'kubectl -n shop delete networkpolicy closed'

# --- pods and namespaces
breaks "another mesh's webhook" "other-mesh MutatingWebhookConfiguration istio-sidecar-injector" 'make <<<"{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: istio-sidecar-injector}, webhooks: [{name: namespace.sidecar-injector.istio.io, clientConfig: {service: {name: istiod, namespace: istio-system, path: /inject}}, rules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods]}], namespaceSelector: {matchLabels: {istio-injection: enabled}}, sideEffects: None, admissionReviewVersions: [v1]}]}"' 'kubectl delete mutatingwebhookconfiguration istio-sidecar-injector'
breaks "a namespace of two meshes" "two-meshes Namespace shop" 'kubectl label namespace shop istio-injection=enabled' 'kubectl label namespace shop istio-injection-'
breaks "a label that means nothing" "namespace-label Namespace outside" 'kubectl label namespace outside tulle.dev/inject=true' 'kubectl label namespace outside tulle.dev/inject-'
breaks "a label with a slip" "unknown-label Namespace outside" 'kubectl label namespace outside tulle.dev/injekt=enabled' 'kubectl label namespace outside tulle.dev/injekt-'
breaks "a namespace that is excluded" "namespace-excluded Namespace kube-system" 'kubectl label namespace kube-system tulle.dev/inject=enabled' 'kubectl label namespace kube-system tulle.dev/inject-'
breaks "pods from before the label" "no-sidecar Pod outside/stranger" 'kubectl label namespace outside tulle.dev/inject=enabled' 'kubectl label namespace outside tulle.dev/inject-'
breaks "an annotation with a slip" "unknown-annotation Pod shop/client" 'kubectl -n shop annotate pod client tulle.dev/exclude-inbound-port=22' 'kubectl -n shop annotate pod client tulle.dev/exclude-inbound-port-'
breaks "a sidecar of another version" "sidecar-version sidecars of version 0.0.9" 'version=$(kubectl -n shop get pod client -o jsonpath="{.metadata.annotations.tulle\.dev/injected}"); kubectl -n shop annotate pod client tulle.dev/injected=0.0.9 --overwrite' 'kubectl -n shop annotate pod client tulle.dev/injected=$version --overwrite'
breaks "a sidecar without its image" "sidecar-stuck Pod shop/victim" 'kubectl -n shop set image pod victim tulle-proxy=registry.local/nobody:1; eventually 30 finds "sidecar-stuck Pod shop/victim"' 'kubectl -n shop delete pod victim --grace-period=0 --force'
breaks "Pod Security that forbids sidecars" "sidecar-refused Namespace empty" 'kubectl label namespace empty pod-security.kubernetes.io/enforce=baseline' 'kubectl label namespace empty pod-security.kubernetes.io/enforce-'
counted() { kubectl -n empty get resourcequota small -o jsonpath='{.status.hard}' | grep -q memory; }
breaks "a quota without room for sidecars" "sidecar-refused Namespace empty" 'make <<<"{apiVersion: v1, kind: ResourceQuota, metadata: {name: small, namespace: empty}, spec: {hard: {limits.memory: 100Mi}}}"; eventually 20 counted' 'kubectl -n empty delete resourcequota small'
breaks "a quota that counts what a sidecar does not say" "sidecar-refused Namespace empty" 'make <<<"{apiVersion: v1, kind: ResourceQuota, metadata: {name: small, namespace: empty}, spec: {hard: {limits.cpu: 4, limits.memory: 4Gi}}}"; eventually 20 counted' 'kubectl -n empty delete resourcequota small'
breaks "a LimitRange without room for sidecars" "sidecar-refused Namespace empty" 'make <<<"{apiVersion: v1, kind: LimitRange, metadata: {name: small, namespace: empty}, spec: {limits: [{type: Container, max: {memory: 128Mi}}]}}"' 'kubectl -n empty delete limitrange small'

# --- policy
breaks "a policy without its target" "policy-refused TrafficPolicy shop/lost" 'make <<<"{apiVersion: tulle.dev/v1alpha1, kind: TrafficPolicy, metadata: {name: lost, namespace: shop}, spec: {targetRefs: [{group: \"\", kind: Service, name: nobody}], timeouts: {request: 1s}}}"; kubectl -n shop wait --for=condition=Accepted=False trafficpolicy/lost --timeout=20s' 'kubectl -n shop delete trafficpolicy lost'
resolved() { kubectl -n shop get httproute lost -o jsonpath='{.status.parents[*].conditions[?(@.type=="ResolvedRefs")].status}' | grep -q False; }
breaks "a route without its backend" "policy-unresolved HTTPRoute shop/lost" 'make <<<"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: lost, namespace: shop}, spec: {parentRefs: [{group: \"\", kind: Service, name: server}], rules: [{backendRefs: [{name: nobody, port: 80}]}]}}"; eventually 20 resolved' 'kubectl -n shop delete httproute lost'

breaks "a release of what is not there" "release-no-target Release shop/lost" 'make <<<"{apiVersion: tulle.dev/v1alpha1, kind: Release, metadata: {name: lost, namespace: shop}, spec: {target: {kind: Deployment, name: nobody}}}"; kubectl -n shop wait --for=condition=Accepted release/lost --timeout=20s' 'kubectl -n shop delete release lost'
refuses "the API server refuses a release of which the steps go down" "steps do not go down" make <<<"{apiVersion: tulle.dev/v1alpha1, kind: Release, metadata: {name: down, namespace: shop}, spec: {target: {kind: Deployment, name: server}, steps: [{weight: 5}, {weight: 1}]}}"

# --- the cluster
holder=$(system get lease tulle-control-plane -o jsonpath='{.spec.holderIdentity}')
breaks "a Lease that nobody holds" "lease Lease tulle-system/tulle-control-plane" 'system patch lease tulle-control-plane --type=merge -p "{\"spec\":{\"holderIdentity\":\"nobody\"}}"' 'system patch lease tulle-control-plane --type=merge -p "{\"spec\":{\"holderIdentity\":\"$holder\"}}"'
NODE=$(kubectl get nodes -o 'jsonpath={.items[0].metadata.name}')
breaks "a node whose clock is off" "clock Node $NODE" 'kubectl -n kube-node-lease patch lease "$NODE" --type=merge -p "{\"spec\":{\"renewTime\":\"$(date -u -d "+10 min" +%FT%T.000000Z)\"}}"' 'kubectl -n kube-node-lease patch lease "$NODE" --type=merge -p "{\"spec\":{\"renewTime\":\"$(date -u +%FT%T.000000Z)\"}}"'
CRD=CustomResourceDefinition
breaks "an old kind of ours" "kind-old $CRD trafficpolicies.tulle.dev" 'patch "[{\"op\":\"remove\",\"path\":\"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/retries/properties/budget\"}]" crd trafficpolicies.tulle.dev' 'kubectl apply --server-side --force-conflicts -f deploy/crds/trafficpolicies.tulle.dev.yaml'
own_breaks "$KINDS" "an old kind of Gateway API" "kind-old $CRD grpcroutes.gateway.networking.k8s.io" 'kubectl annotate crd grpcroutes.gateway.networking.k8s.io gateway.networking.k8s.io/bundle-version=v1.0.0 --overwrite' 'kubectl annotate crd grpcroutes.gateway.networking.k8s.io gateway.networking.k8s.io/bundle-version=v1.6.3 --overwrite'
own_breaks "$KINDS" "a kind that is not there" "kind-missing $CRD referencegrants.gateway.networking.k8s.io" 'kubectl delete -f deploy/gateway-api/referencegrants.yaml' 'kubectl create -f deploy/gateway-api/referencegrants.yaml'

# --- tulle-cni, whose image the nodes do not have
# what was planted before has been written by kubectl
upgrade() { tulle upgrade -f "$W/values.yaml" --force-conflicts "$@"; }
gone() { [ -z "$(kubectl -n kube-system get pod -l app.kubernetes.io/name=tulle-cni -o name)" ]; }
breaks "tulle-cni that is not ready" "cni-not-ready DaemonSet kube-system/tulle-cni" 'upgrade --set cni.enabled=true --no-wait; eventually 30 finds "cni-not-ready DaemonSet kube-system/tulle-cni"' 'upgrade --timeout 90s; eventually 60 gone'

# --- the control plane itself
unready() { system get pods -o json | python3 -c 'import json, sys
for pod in json.load(sys.stdin)["items"]:
  if not any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])): print("Pod tulle-system/" + pod["metadata"]["name"])'; }
unpulled() { system get pods -o jsonpath="{.items[*].status.containerStatuses[*].state.waiting.reason}" | grep -q ErrImageNeverPull; }
image=$(system get deployment tulle-control-plane -o jsonpath='{.spec.template.spec.containers[0].image}')
breaks "an image that is not there" 'control-plane-pod $(unready)' 'system set image deployment tulle-control-plane control-plane=registry.local/nobody:1; eventually 30 unpulled' 'system set image deployment tulle-control-plane control-plane=$image'
breaks "no replica at all" "no-replicas Deployment tulle-system/tulle-control-plane" 'system scale deployment tulle-control-plane --replicas=0; system wait --for=delete pod -l app.kubernetes.io/name=tulle-control-plane --timeout=40s' 'system scale deployment tulle-control-plane --replicas=1; system rollout status deployment tulle-control-plane --timeout=60s'

check "healthy in the end" eventually 30 quiet
[ "$failed" = 0 ] || { kubectl get pods -A -o wide; tulle check; system logs deploy/tulle-control-plane | tail -20; } || true
close
