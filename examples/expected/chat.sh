# Three clients talk; each one's address is replaced by its name, so that what they heard can be compared.
. examples/expected/lib.sh
server chat 127.0.0.1:0

client ann 3
until_ready heard ann "You are"
client bob 4
until_ready heard ann "has arrived"
echo "hello, who is there?" >&3
until_ready heard bob "hello, who is there?"
echo "bob" >&4
until_ready heard ann ": bob"
client eve 5
until_ready heard bob "has arrived"
echo "I am leaving" >&4
until_ready heard eve "I am leaving"
exec 4>&-
until_ready heard eve "has left"
until_ready heard ann "has left"
echo "and I stay" >&5
until_ready heard ann "and I stay"
until_ready heard eve "and I stay"

for name in ann bob eve; do sed -n "1s/You are \(.*\)/s,\1,$name,/p" "$work/$name"; done >"$work/names"
for name in ann bob eve; do
    echo "$name hears"
    sed -f "$work/names" "$work/$name" | sed 's/^/    /'
done

server chat 127.0.0.1:0 200
"$dir/netcat" -1 "$address" >"$work/tim" # ends when the server hangs up
echo "tim said nothing for too long, and heard $(wc -l <"$work/tim") line"

server chat 127.0.0.1:0
client fay 6
echo "fay is here" >&6
until_ready heard fay "fay is here" # she is in the room; before, she does not hear of others
client gus 7
until_ready heard fay "has arrived"
seq -f 'line %g' 1 4000 >&6
until_ready heard gus "line 9"
sleep 0.5 # some thousand lines, if nothing held them back
echo "may I" >&7
until_ready heard gus "may I"
said=$(sed -n 's/.*: line //p; /may I$/q' "$work/gus" | tail -n 1)
[ "$said" -ge 9 ] && [ "$said" -lt 300 ] || echo "fay had said $said lines by then"
echo "gus may talk while fay floods"
