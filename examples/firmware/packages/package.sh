#!/bin/sh
# package.sh NAME DIRECTORY - makes DIRECTORY a package of csp.h. NAME: platformio (library.json), arduino
# (library.properties) or cmsis-pack (a .pdsc, which packchk or a zip takes from there). The header's
# version stands in each; VENDOR and URL come from the environment: they are the publisher's.
set -e
here=$(cd "$(dirname "$0")" && pwd)
csp=$here/../../..
[ -d "$here/$1" ] && [ -n "$2" ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
version=$(sed -n 's/^#define CSP_VERSION "\(.*\)"/\1/p' "$csp/csp.h")
license=$(sed -n '1,3s/.*SPDX-License-Identifier: \([A-Za-z0-9.-]*\).*/\1/p' "$csp/csp.h")
mkdir -p "$2/src" "$2/examples/recipe"
cp "$csp/csp.h" "$2/src"
cp "$csp/LICENSE" "$2"
cp "$here/../recipe.c" "$2/examples/recipe"
for file in "$here/$1"/*; do
    name=$(basename "$file")
    [ "$name" != csp.pdsc ] || name=${VENDOR:-Example}.csp.pdsc
    sed "s|@VERSION@|$version|; s|@LICENSE@|$license|; s|@DATE@|${DATE:-$(date +%Y-%m-%d)}|
        s|@VENDOR@|${VENDOR:-Example}|; s|@URL@|${URL:-https://example.org/csp/}|" "$file" >"$2/$name"
done
