# The clock, with two clients: one at a time, then both.
. examples/expected/lib.sh
server clock -1 127.0.0.1:0 20
client first 3
until_ready lines first 1
client second 4
until_ready lines first 10
if lines second 1; then echo "one at a time: both were served"; else echo "one at a time: the second waits"; fi
kill $pid_first
until_ready lines second 3
echo "one at a time: the second has its turn"

server clock 127.0.0.1:0 20
client third 5
client fourth 6
until_ready lines third 3
until_ready lines fourth 3
head -n 1 "$work/third" | sed 's/[0-9]/9/g; s/^/both: /'
head -n 1 "$work/fourth" | sed 's/[0-9]/9/g; s/^/both: /'
