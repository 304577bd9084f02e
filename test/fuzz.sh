#!/bin/sh
# Run every fuzz target of the module for the time given (default 5s).
set -eu

time=${1:-5s}
found=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# failed: did the run whose output is in $out find anything?
#
# When -fuzztime ends, Go before 1.27 may report its own deadline as a failure
# of the target (golang/go#75804). Nothing was found then: no input is written,
# and the deadline is all that the report says.
failed() {
  grep -q 'Failing input written to' "$out" && return 0
  sed -n '/^--- FAIL/,/^FAIL$/p' "$out" | grep -v -e '^--- FAIL' -e '^FAIL$' |
    grep -qvx ' *context deadline exceeded' && return 0
  ! grep -qx ' *context deadline exceeded' "$out"
}

for pkg in $(go list ./...); do
  for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
    found=$((found + 1))
    echo "fuzz $pkg $target ($time)"
    # Without a bound on minimising, large seeds take all of a short time.
    if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "$pkg" >"$out" 2>&1; then
      cat "$out"
      if failed; then exit 1; fi
      echo "only the end of its time stopped $target: nothing was found"
      continue
    fi
    tail -n 1 "$out"
  done
done
[ "$found" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "$found fuzz targets ran"
