#!/bin/sh
# Install the Debian packages named as arguments, where they are missing and we
# may; else say what to install.
set -eu

missing=
for p in "$@"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "these packages (Debian names) are needed:$missing" >&2
  echo "there is no apt-get here: install them by other means; suites that need them are skipped" >&2
  exit 0
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root=sudo
  else
    echo "run as root: apt-get install$missing" >&2
    echo "without them the suites that need them are skipped" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
  fi
fi
# Debian starts a freshly installed server at once; the tests start their own.
policy=
if [ ! -e /usr/sbin/policy-rc.d ] && [ -d /usr/sbin ]; then
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
  trap '$as_root rm -f "$policy"' EXIT
fi
log=$(mktemp)
if ! { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  cat "$log" >&2
  rm -f "$log"
  echo "could not install:$missing" >&2
  exit 1
fi
rm -f "$log"
