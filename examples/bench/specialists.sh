#!/bin/sh
# specialists.sh [ROW...] - csp.h beside libraries that do one thing: oneTBB, OpenMP (gcc's and LLVM's)
# and Rayon for recursion and loops, Tokio for tasks and messages, Erlang for sleepers, three queues for
# threads, libuv and libevent for timers, an epoll loop and nginx for sockets. Each is optional, and built
# where it is found. The programs run in turns, ROUNDS (5) times through all rows, at one and at two
# processors, in an order that is drawn each time; PREFIX is a command to run each with, and LIMIT (100)
# the seconds that it may take. Minimum, median and maximum go to build/specialists.tsv, a line for each
# row, number of processors and program; chart.sh makes a picture and a table in Markdown of them,
# build/specialists.svg and .md.
# The row http is files.sh's rows. MERGE=1 adds the rounds to those of before.
#
# TRY=1 builds the programs, runs each once with little to do, and fails if one does. csp.h's programs and
# csp.o are in BIN (build), the others go to OUT (build/specialists.d).
#
# The loops and sorts are compiled with -O3, as Rust's are, and csp.h's by clang, too, which makes another
# machine code of them than gcc: csp-clang. The better of the two is compared with the best of the others.
cd "$(dirname "$0")/../.." || exit 1
bin=${BIN:-build}
out=${OUT:-build/specialists.d}
peers=examples/bench/peers
mkdir -p $out

table() { # a row, how much, how much for TRY, the processors, the programs beside csp
    cat <<'END'
fib            30        15     1,2  tbb,gomp,lomp,rayon
tree           6         3      1,2  tbb,gomp,lomp,rayon
tree_go        6         3      1,2  tbb,gomp,lomp,rayon,tokio
sum            100000000 100000 1,2  csp-clang,tbb,gomp,lomp,rayon
matrix         600       50     1,2  csp-clang,tbb,gomp,lomp,rayon
quicksort      10000000  300000 1,2  csp-clang,tbb,gomp,lomp,rayon
sort           2000000   100000 1,2  csp-clang,tbb,gomp,lomp,rayon
ctx_switch     5000000   1000   1,2  tokio
chan_pingpong  1000000   1000   1,2  tokio
chan_buffered  5000000   1000   1,2  tokio
chan_mpmc      4000000   4000   1,2  tokio,moodycamel,ck,urcu
select4        1000000   1000   1,2  tokio
spawn_join     1000000   2000   1,2  tokio
skynet         1000000   1000   1,2  tokio
sieve          2000      20     1,2  tokio
mutex_8        5000000   8000   1,2  tokio
sleepers       100000    100    1,2  tokio,erlang
sleepers_20k   20000     100    1,2  tokio,erlang
timers         100000    1000   1    libuv,libevent
timers_1m      1000000   1000   1    libuv,libevent
echo           64        2      2    tokio,epoll
END
}

# ---- the programs ----

fresh() { # PROGRAM SOURCE - building disturbs whoever measures
    [ -n "$(find "$1" -newer "$2" 2>/dev/null)" ]
}

build() { # PROGRAM SOURCE COMPILER HEADER PACKAGE OPTIONS... - or a line that says what is missing
    program=$1 source=$peers/$2 cc=$3 header=$4 package=$5
    shift 5
    case $source in *.cc) language=c++ ;; *) language=c ;; esac
    ! fresh "$out/$program" "$source" || return 0
    if ! command -v "$cc" >/dev/null 2>&1 ||
        ! echo "#include <$header>" | "$cc" "$@" -x $language - -c -o "$out/probe.o" 2>/dev/null; then
        echo "no $program: left out (apt-get install $package)"
        rm -f "$out/$program"
    else
        "$cc" -O3 "$source" -o "$out/$program" "$@" -pthread || exit 1
    fi
}

crates() { # PROGRAM... - with the crates of Debian's librust-*-dev, without a network
    registry=/usr/share/cargo/registry
    if ! command -v cargo >/dev/null 2>&1 || ! ls -d $registry/rayon-[0-9]* $registry/tokio-[0-9]* \
        $registry/async-channel-* >/dev/null 2>&1; then
        echo "no $*: left out (apt-get install cargo librust-rayon-dev librust-tokio-dev librust-async-channel-dev)"
        for p; do rm -f $out/"$p"; done
        return
    fi
    for p; do
        fresh $out/"$p" $peers/"$p".rs && continue
        mkdir -p $out/cargo
        cat >$out/cargo/Cargo.toml <<END
[package]
name = "peers"
version = "0.1.0"
edition = "2021"
[[bin]]
name = "rayon"
path = "$PWD/$peers/rayon.rs"
[[bin]]
name = "tokio"
path = "$PWD/$peers/tokio.rs"
[dependencies]
async-channel = "1"
libc = "0.2"
rayon = "1"
tokio = { version = "1", features = ["io-util", "macros", "net", "rt-multi-thread", "sync", "time"] }
END
        (cd $out/cargo && cargo build -q --release --offline \
            --config 'source.crates-io.replace-with="debian"' \
            --config "source.debian.directory=\"$registry\"") || exit 1
        cp $out/cargo/target/release/"$p" $out/"$p" || exit 1
    done
}

loops() { # FOLDER COMPILER - csp.h's loops and sorts
    mkdir -p "$out/$1"
    for row in sum matrix quicksort sort; do
        fresh "$out/$1/$row" "examples/parallel/$row.c" && fresh "$out/$1/$row" "$bin/csp.o" ||
            "$2" -O3 -I. -DCSP_IMPLEMENTED "examples/parallel/$row.c" "$bin/csp.o" -o "$out/$1/$row" -pthread || exit 1
    done
}

loops csp "${CC:-cc}"
if command -v clang >/dev/null 2>&1; then loops csp-clang clang; else echo "no csp-clang: left out (apt-get install clang)"; fi
build tbb tbb.cc "${CXX:-c++}" tbb/task_group.h libtbb-dev -ltbb
build gomp openmp.c "${CC:-cc}" omp.h "gcc, whose OpenMP has no package of its own" -fopenmp
build lomp openmp.c clang omp.h "clang libomp-dev" -fopenmp
build moodycamel moodycamel.cc "${CXX:-c++}" concurrentqueue/blockingconcurrentqueue.h libconcurrentqueue-dev -std=c++17
build ck ck_ring.c "${CC:-cc}" ck_ring.h libck-dev -lck
build urcu urcu.c "${CC:-cc}" urcu/wfcqueue.h liburcu-dev -lurcu-common
build libuv libuv.c "${CC:-cc}" uv.h libuv1-dev -luv
build libevent libevent.c "${CC:-cc}" event2/event.h libevent-dev -levent
build epoll echo_epoll.c "${CC:-cc}" sys/epoll.h linux-libc-dev
crates rayon tokio
if ! command -v erlc >/dev/null 2>&1; then
    echo "no erlang: left out (apt-get install erlang-base)"
    rm -f $out/erlang
elif ! fresh $out/erlang $peers/sleepers.erl; then # its schedulers would spin for others, which is CPU, too
    erlc -o $out $peers/sleepers.erl || exit 1
    cat >$out/erlang <<END
exec erl -noshell -noinput +S \$OMP_NUM_THREADS:\$OMP_NUM_THREADS +sbwt none +sbwtdcpu none +sbwtdio none \\
    +P 300000 -pa $out -run sleepers main "\$@"
END
    chmod +x $out/erlang
fi

# ---- a run ----

run() { # PROGRAM ROW HOW-MUCH PROCS
    pin= row=$2
    [ "$row" != sleepers_20k ] || set -- "$1" sleepers "$3" "$4"
    [ "$4" != 1 ] || ! command -v taskset >/dev/null || pin='taskset -c 0'
    case $1-$2 in
    csp-fib | csp-tree | csp-tree_go | csp-timers*) set -- "$1" "$4" "$bin/specialists" "$2" "$3" ;;
    csp-sum | csp-matrix | csp-quicksort | csp-sort | csp-clang-*) set -- "$1" "$4" "$out/$1/$2" "$3" 10000 ;;
    csp-*) set -- "$1" "$4" "$bin/bench" "$2" -n "$3" ;;
    epoll-*) set -- "$1" "$4" $out/epoll "$3" ;;
    *) set -- "$1" "$4" "$out/$1" "$2" "$3" 10000 ;;
    esac
    program=$1 procs=$2
    shift 2
    CSP_PROCS=$procs OMP_NUM_THREADS=$procs $PREFIX $pin timeout "${LIMIT:-100}" "$@" >$out/one || {
        echo "$program: $*: status $?" >&2
        failed=yes
        return
    }
    # "row value unit", or "row: value unit" of a program of examples/parallel
    sed -n "s/^\([a-z_0-9]*\):\{0,1\} \([0-9.]*\) \([^ ]*\)\$/$program $procs \1 \2 \3/p" $out/one |
        sed "s/ sleepers_/ $([ "$row" = sleepers_20k ] && echo sleepers_20k || echo sleepers)_/"
}

web() { # files.sh's rows, a round; nothing without nginx and wrk
    ROUNDS=1 $PREFIX sh examples/bench/files.sh plain quiet log >$out/one 2>&1 || {
        echo "http: $(tail -n 1 $out/one)" >&2
        return
    }
    [ ! -s build/files.tsv ] || awk -F '\t' '
        FNR > 1 { print $2 == "nginx" ? "nginx" : "csp", 2, "http_" ($1 == "quiet" ? "file" : $1), $3, "us" }' build/files.tsv
}

shuffled() { # the first program of a row finds other caches than the next
    if command -v shuf >/dev/null 2>&1; then shuf; else cat; fi
}

each() { # HOW - one round: of all rows, or of those that were asked for
    table | while read -r row n few procs who; do
        case " ${rows:-$row} " in *" $row "*) ;; *) continue ;; esac
        [ "$1" = full ] || n=$few
        failed=
        for p in $(echo "$procs" | tr , ' '); do
            for program in $(echo "csp,$who" | tr , '\n' | shuffled); do
                [ -e "$out/$program" ] || continue
                run "$program" "$row" "$n" "$p"
            done
        done
        [ -z "$failed" ] || echo "failed $row"
    done
}

rows=$*
if [ -n "$TRY" ]; then
    each little | tee $out/tried
    ! grep -q '^failed' $out/tried
    exit
fi
[ -n "$MERGE" ] || : >$out/raw
for i in $(seq "${ROUNDS:-5}"); do
    each full >>$out/raw
    case " ${rows:-http} " in *" http "*) web >>$out/raw ;; esac
done

awk '
    $1 == "failed" { next }
    { key = $3 " " $2; if (!(key in unit)) order[++keys] = key
      unit[key] = $5; value[$1, key, ++count[$1, key]] = $4
      if (!($1 in known)) { known[$1] = 1; who[++whos] = $1 } }
    function sorted(program, key,    i, j, t, m) {
        m = count[program, key] + 0
        for (i = 1; i <= m; i++) v[i] = value[program, key, i]
        for (i = 2; i <= m; i++) for (j = i; j > 1 && v[j] + 0 < v[j - 1] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        low = v[1]; high = v[m]; mid = v[int((m + 1) / 2)]
        return m
    }
    function figure(x) { return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x) }
    END {
        file = "build/specialists.tsv"
        print "row\tprocs\tunit\tprogram\tmin\tmedian\tmax\trounds" >file
        for (k = 1; k <= keys; k++) {
            key = order[k]; split(key, part, " "); u = unit[key]; best = ""; others = ""; csp = ""; mine = ""
            for (w = 1; w <= whos; w++) {
                if (!(m = sorted(who[w], key))) continue
                printf "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", part[1], part[2], u, who[w], low, mid, high, m >file
                one = figure(mid) " (" figure(low) ".." figure(high) ")"
                if (who[w] ~ /^csp/) { mine = mine " " who[w] " " one; if (csp == "" || mid + 0 < csp + 0) csp = mid; continue }
                others = others " " who[w] " " one
                if (best == "" || (u ~ /\/s$/ ? mid + 0 > best + 0 : mid + 0 < best + 0)) best = mid
            }
            if (csp == "" || best == "" || csp <= 0 || best <= 0) continue
            printf "%-16s %s %-6s %5.2f %s%s\n", part[1], part[2], u, u ~ /\/s$/ ? csp / best : best / csp, mine, others
        }
        print "The fourth column: so many times better than the best of the others; below 1, worse."
    }' $out/raw
for kind in specialists table; do
    sh examples/bench/chart.sh $kind >build/specialists.$([ $kind = table ] && echo md || echo svg)
done
