# SIGTERM, while the workers are at it.
. examples/expected/lib.sh
server shutdown
until_ready grep -q 'at work' "$work/server.err"
kill $server
wait $server
echo "exit code $?"
cat "$work/server.out"
