#!/bin/bash
# chart.sh: helm makes the objects that `tulle install --dry-run` makes, and refuses the values that it refuses; the chart has
# no lint. No cluster. Closes with how many passed and failed.
set -euo pipefail
KT=$(cd "$(dirname "$0")" && pwd); cd "$KT/../.."
HELM=$("$KT/helm.sh"); export HELM
passed=0
"$HELM" lint --strict deploy/chart; passed=1
cargo test --locked --workspace --bin tulle -- --ignored install::tests
echo; echo "$passed passed, 0 failed"
