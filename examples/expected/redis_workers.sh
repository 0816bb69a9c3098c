# Two worker processes, one of which dies in the middle of a job; nothing is lost.
command -v redis-server >/dev/null || { echo "no redis-server (apt-get install redis-server)" >&2; exit 77; }
. examples/expected/lib.sh
redis-server --port 0 --unixsocket "$work/redis" --save '' --dir "$work" >"$work/redis.log" 2>&1 &
servers=$!
until_ready test -S "$work/redis"
"$dir/redis_workers" work mortal "unix:$work/redis" 77 2>/dev/null &
mortal=$!
"$dir/redis_workers" submit 300 "unix:$work/redis" &
submit=$!
wait $mortal 2>/dev/null
[ $? = 137 ] && echo "a worker was killed"
"$dir/redis_workers" work heir "unix:$work/redis" &
heir=$!
wait $submit
kill $heir
wait $heir
echo "the other ended with $?"
