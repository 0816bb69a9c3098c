#!/bin/sh
# package.sh NAME DIRECTORY - makes DIRECTORY a package of csp.h. NAME: platformio (library.json), arduino
# (library.properties), cmsis-pack (a .pdsc, which packchk or a zip takes from there), zephyr (a module) or
# esp-idf (a component). The header's version stands in each; VENDOR and URL come from the environment: they
# are the publisher's.
set -e
here=$(cd "$(dirname "$0")" && pwd)
csp=$here/../../..
[ -d "$here/$1" ] && [ -n "$2" ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
version=$(sed -n 's/^#define CSP_VERSION "\(.*\)"/\1/p' "$csp/csp.h")
license=$(sed -n '1,3s/.*SPDX-License-Identifier: \([A-Za-z0-9.-]*\).*/\1/p' "$csp/csp.h")
mkdir -p "$2/src"
cp "$csp/csp.h" "$2/src"
cp "$csp/LICENSE" "$2"
case $1 in
zephyr | esp-idf) ;; # the recipe is for bare metal
*) mkdir -p "$2/examples/recipe" && cp "$here/../recipe.c" "$2/examples/recipe" ;;
esac
for name in $(cd "$here/$1" && find . -type f | sed 's|^\./||'); do
    file=$here/$1/$name
    mkdir -p "$(dirname "$2/$name")"
    [ "$name" != csp.pdsc ] || name=${VENDOR:-Example}.csp.pdsc
    sed "s|@VERSION@|$version|; s|@LICENSE@|$license|; s|@DATE@|${DATE:-$(date +%Y-%m-%d)}|
        s|@VENDOR@|${VENDOR:-Example}|; s|@URL@|${URL:-https://example.org/csp/}|" "$file" >"$2/$name"
done
