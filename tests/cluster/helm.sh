#!/bin/bash
# helm.sh: makes helm, from Go modules alone, and prints its path. Does nothing else when it is there.
set -euo pipefail
KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/helm"
HELM=$CACHE/helm-$(cat go.mod go.sum | sha256sum | cut -c1-12)
if [ ! -x "$HELM/helm" ]; then
  V=$(sed -n 's/^\thelm.sh\/helm\/v4 \(v[0-9.]*\).*/\1/p' go.mod)
  rm -rf "$CACHE"/helm-*; mkdir -p "$HELM.part"
  go build -trimpath -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$V" -o "$HELM.part/" helm.sh/helm/v4/cmd/helm >&2
  mv "$HELM.part" "$HELM"
fi
echo "$HELM/helm"
