# Three clients: one that asks, one that says nothing, and one that is there when the end comes.
. examples/expected/lib.sh
server kv_server 127.0.0.1:0 1000
printf 'SET a hello world\nGET a\nGET b\nDEL a\n' >"$work/asks"
"$dir/netcat" "$address" <"$work/asks" >"$work/asked"
cat "$work/asked"
client silent 3
until_ready heard silent "too quiet"
echo "silence: $(cat "$work/silent")"
client late 4
echo "GET a" >&4
until_ready heard late "hello world"
kill -TERM $server
until_ready heard late "going down"
wait $server
cat "$work/server.out"
