# Requests as they come over the wire, and what the server says to them.
. examples/expected/lib.sh
root=$work/root
mkdir -p "$root/sub"
printf 'hello\n' >"$root/hello.txt"
printf '<p>hello</p>\n' >"$root/sub/index.html"
printf 'secret\n' >"$work/secret"
seq 1 20000 >"$root/numbers"
server httpd 127.0.0.1:0 "$root" 10000

# ask TITLE, with the requests on stdin: LF becomes CRLF
ask() {
    echo "--- $1"
    sed 's/$/\r/' | "$dir/netcat" "$address" | tr -d '\r' | grep -v '^Date: '
}

ask "three in a row, the second for a part" <<END
GET /hello.txt HTTP/1.1
Host: here

GET /hello.txt HTTP/1.1
Host: here
Range: bytes=1-3

HEAD /sub/ HTTP/1.1
Host: here
Connection: close

END
ask "a body that nobody wants, and what comes after it" <<END
POST /hello.txt HTTP/1.1
Host: here
Content-Length: 9

1234567
GET /nothing HTTP/1.0

END
ask "out of the directory" <<END
GET /sub/%2e%2e/%2e%2e/secret HTTP/1.0

END
ask "no Host" <<END
GET /hello.txt HTTP/1.1

END
ask "two lengths" <<END
GET /hello.txt HTTP/1.1
Host: here
Content-Length: 3
Content-Length: 4

END
{
    echo "GET /hello.txt HTTP/1.1"
    seq -f 'X-%g: y' 1 100
    echo
} | ask "too many header lines" | head -n 2
{ printf 'GET /'; printf '%3000d' 0 | tr ' ' 0; echo ' HTTP/1.1'; } | ask "a long name" | head -n 2
ask "behind the end" <<END
GET /hello.txt HTTP/1.0
Range: bytes=6-

END
echo "--- a larger file"
printf 'GET /numbers HTTP/1.0\r\n\r\n' | "$dir/netcat" "$address" | sed '1,/^\r$/d' | cmp - "$root/numbers" && echo same

client slow 3 # stays, and is silent
printf 'GET /hello.txt HTTP/1.1\r\nHost: here\r\n\r\n' >&3
until_ready heard slow hello
kill $server
wait $server
echo "--- the log"
sed -n 's/^[^ ]* "\(.*\)/\1/p; /^closed/p' "$work/server.err"

server httpd 127.0.0.1:0 "$root" 10000
behind=$address
server httpd 127.0.0.1:0 "$root/sub" 10000 /hello "$behind"
ask "passed on, refused behind, not passed on" <<END
GET /hello.txt HTTP/1.1
Host: here

POST /hello.txt HTTP/1.1
Host: here
Content-Length: 4

123
GET / HTTP/1.1
Host: here
Connection: close

END
server httpd 127.0.0.1:0 "$root" 10000 / 127.0.0.1:1
ask "nobody there" <<END
GET /hello.txt HTTP/1.0

END

server httpd 127.0.0.1:0 "$root" 100
echo "--- patience"
"$dir/netcat" -1 "$address"
echo "the server hung up"
