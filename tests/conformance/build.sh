#!/bin/bash
# build.sh: makes the conformance suite's test program, its CRDs of both channels, and the image that its pods run, from
# Go modules alone. Does nothing when they are there. Prints the directory that holds them.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd); KT=$HERE/../cluster; . "$KT/env.sh"
OUT=$(dirname "$CACHE")/conformance; BUILT=$OUT/$(cat "$HERE"/build.sh "$HERE"/*/go.* "$HERE"/suite/*.go "$KT"/../../deploy/images/pack.py | sha256sum | cut -c1-12)
[ ! -e "$BUILT/complete" ] || { echo "$BUILT"; exit 0; }
rm -rf "$OUT"; mkdir -p "$BUILT/crds"; R=$(mktemp -d); trap 'rm -rf "$R"' EXIT
cd "$HERE/suite"
go test -c -vet=off -trimpath -o "$BUILT/conformance.test" .
API=$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
for channel in standard experimental; do
  # kustomization.yaml is no object; the others are
  for f in "$API/config/crd/$channel"/gateway*.yaml; do echo ---; cat "$f"; done > "$BUILT/crds/$channel.yaml"
done
# The suite's pods: an echo server, and the client that the suite runs in them by exec. Its name is the suite's.
mkdir -p "$R/usr/bin"; mkdir -m 1777 "$R/tmp"
cd "$HERE/echo"; go build -trimpath -ldflags='-s -w' -o "$R/usr/bin/" istio.io/istio/pkg/test/echo/cmd/server istio.io/istio/pkg/test/echo/cmd/client
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$R/cert.key" -out "$R/cert.crt" -days 3650 -subj /CN=echo -addext subjectAltName=DNS:echo 2>/dev/null
chmod 644 "$R/cert.key"
python3 "$KT/../../deploy/images/pack.py" "$BUILT/echo.tar" registry.k8s.io/gateway-api/echo-advanced:v1.5.1 "$R" --entry '["/usr/bin/server"]' >&2
touch "$BUILT/complete"; echo "$BUILT"
