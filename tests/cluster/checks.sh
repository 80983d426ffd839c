# Sourced by what counts its checks; it ends with `close`.
passed=0 failed=0 skipped=0
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }
# skip WHAT WHY: what cannot be tried here
skip() { echo "SKIP $1: $2"; skipped=$((skipped + 1)); }
check() { local what=$1 said; shift; if said=$("$@" 2>&1); then ok "$what"; else bad "$what" "$said"; fi; }
# says WHAT TEXT COMMAND…: it succeeds and says so; refuses: it fails and says so
says() { local what=$1 text=$2 said; shift 2; if said=$("$@" 2>&1) && grep -qF -- "$text" <<<"$said"; then ok "$what"; else bad "$what" "$said"; fi; }
refuses() { local what=$1 text=$2 said; shift 2; if ! said=$("$@" 2>&1) && grep -qF -- "$text" <<<"$said"; then ok "$what"; else bad "$what" "$said"; fi; }
# has TEXT…: a line of the input has all of these. It reads all of it: a pipe fails if whoever writes is cut off, as by grep -q
has() { local lines text; lines=$(cat); for text; do lines=$(grep -F -- "$text" <<<"$lines") || return 1; done; }
# eventually SECONDS COMMAND…: until it succeeds
eventually() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { "$@"; return; }; sleep 0.2; done; }
# soon WHAT TEXT COMMAND…: within 20 s it says so
soon() { local what=$1 text=$2; shift 2; check "$what" eventually 20 contains "$text" "$@"; }
contains() { local text=$1 said; shift; said=$("$@" 2>&1) || true; grep -qF -- "$text" <<<"$said" || { echo "$said"; return 1; }; }
fails() { ! "$@"; }
close() { [ "$skipped" = 0 ] || printf '\n%s NOT TRIED here: see SKIP above\n' "$skipped"; echo; echo "$passed passed, $failed failed"; [ "$failed" = 0 ]; }
