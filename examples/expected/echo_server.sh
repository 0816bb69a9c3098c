# The echoes in virtual time, then version 3 over a real connection: nothing that was shouted is lost.
. examples/expected/lib.sh
"$dir/echo_server" --simulate || exit 1

server echo_server -3 127.0.0.1:0 10
client ann 3
echo "Hello?" >&3
until_ready heard ann "HELLO?"
echo "Last words" >&3
exec 3>&-
wait $pid_ann
echo "over a connection"
sort "$work/ann"
