# Sourced by what counts its checks; it closes with "$passed passed, $failed failed".
passed=0 failed=0
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }
check() { local what=$1 said; shift; if said=$("$@" 2>&1); then ok "$what"; else bad "$what" "$said"; fi; }
# says WHAT TEXT COMMAND…: it succeeds and says so; refuses: it fails and says so
says() { local what=$1 text=$2 said; shift 2; if said=$("$@" 2>&1) && grep -qF -- "$text" <<<"$said"; then ok "$what"; else bad "$what" "$said"; fi; }
refuses() { local what=$1 text=$2 said; shift 2; if ! said=$("$@" 2>&1) && grep -qF -- "$text" <<<"$said"; then ok "$what"; else bad "$what" "$said"; fi; }
# eventually SECONDS COMMAND…: until it succeeds
eventually() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { "$@"; return; }; sleep 0.2; done; }
