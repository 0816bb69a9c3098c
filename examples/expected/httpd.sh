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
ask "what csp counts" <<END | sed 's/^\(csp_[a-z_]*\) [0-9][0-9]*$/\1 N/; s/^Content-Length: .*/Content-Length: N/'
GET /metrics HTTP/1.0

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
sed -n 's/^\(.*metrics" 200\) .*/\1 N/; s/^[^ ]* "\(.*\)/\1/p; /^closed/p' "$work/server.err"

server httpd 127.0.0.1:0 "$root" 10000
behind=$address
server httpd 127.0.0.1:0 "$root/sub" 10000 /hello "$behind"
ask "passed on, refused behind, not passed on" <<END
GET /hello.txt HTTP/1.1
Host: here

POST /hello.txt HTTP/1.1
Host: here
Content-Length: 5

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

ln -s ../secret "$root/link"
ln -s .. "$root/up"
ln -s hello.txt "$root/alias"
server httpd 127.0.0.1:0 "$root" 10000

# raw TITLE REQUESTS [LINES] - with the escapes of printf's %b; the statuses of the answers, and LINES of them
raw() {
    printf '%b' "$2" | "$dir/netcat" "$address" | tr -d '\r' >"$work/raw"
    echo "$1:$(sed -n 's,^HTTP/1.1 \([0-9]*\).*, \1,p' "$work/raw" | tr -d '\n')"
    [ -z "${3:-}" ] || sed -n "s/^\($3\)/    \1/p" "$work/raw"
}
get='GET /hello.txt HTTP/1.1\r\nHost: here\r\n'
last='Connection: close\r\n\r\n'

echo "--- heads that could be read in two ways"
raw "all is well" "$get$last"
raw "an empty line before" "\r\n$get$last"
raw "lines without CR" 'GET /hello.txt HTTP/1.0\n\n'
raw "a field without CR" "${get}X: y\n$last"
raw "the last line without CR" "${get}X: y\r\n\n"
raw "CR in a field" "${get}X: y\rConnection: close\r\n\r\n"
raw "CR in the target" 'GET /hello.txt\r HTTP/1.0\r\n\r\n'
raw "CR before CR" "${get}X: y\r\r\n$last"
raw "VT in a field" "${get}X: y\013z\r\n$last"
raw "FF between the words" 'GET\014/hello.txt HTTP/1.0\r\n\r\n'
raw "NUL in a field" "${get}X: y\0000z\r\n$last"
raw "NUL behind the target" 'GET /hello.txt\0000/no HTTP/1.0\r\n\r\n'
raw "DEL in a name" "${get}X\0177: y\r\n$last"
raw "a tab between the words" 'GET\t/hello.txt HTTP/1.0\r\n\r\n'
raw "two spaces" 'GET  /hello.txt HTTP/1.0\r\n\r\n'
raw "a space behind" 'GET /hello.txt HTTP/1.0 \r\n\r\n'
raw "a space before" ' GET /hello.txt HTTP/1.0\r\n\r\n'
raw "a line that goes on" "${get}X: y\r\n z\r\n$last"
raw "a space before the first field" 'GET /hello.txt HTTP/1.1\r\n X: y\r\nHost: here\r\n\r\n'
raw "a space before the colon" "${get}Content-Length : 0\r\n$last"
raw "a field without a name" "${get}: y\r\n$last"
raw "an empty Host, and another" 'GET /hello.txt HTTP/1.1\r\nHost:\r\nHost: here\r\n\r\n'
raw "an empty Host" 'GET /hello.txt HTTP/1.1\r\nHost: \r\n\r\n'
raw "a Host twice" "${get}Host: here\r\n$last"
raw "a Host that is none" 'GET /hello.txt HTTP/1.1\r\nHost: here/there\r\n\r\n'
raw "a Host of 300 letters" "GET /hello.txt HTTP/1.1\r\nHost: $(printf '%0300d' 0)\r\n\r\n"
raw "a Host with a port" 'GET /hello.txt HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n'
raw "a length of two numbers" "${get}Content-Length: 3, 3\r\n$last"
raw "a length with a sign" "${get}Content-Length: +3\r\n$last"
raw "chunks" "${get}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

echo "--- targets and versions"
raw "an absolute one" 'GET http://there/hello.txt HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n'
raw "without a path" 'HEAD http://there HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n'
raw "of a user" 'GET http://a@there/hello.txt HTTP/1.1\r\nHost: here\r\n\r\n'
raw "a star" 'GET * HTTP/1.0\r\n\r\n'
raw "a star with its method" 'OPTIONS * HTTP/1.0\r\n\r\n'
raw "a fragment" 'GET /hello.txt#a HTTP/1.0\r\n\r\n'
raw "a method of 20 letters" "$(printf '%020d' 0) / HTTP/1.0\r\n\r\n"
raw "HTTP/1.9" 'GET /hello.txt HTTP/1.9\r\nHost: here\r\nConnection: close\r\n\r\n'
raw "HTTP/1.10" 'GET /hello.txt HTTP/1.10\r\nHost: here\r\n\r\n'
raw "HTTP/2.0" 'GET /hello.txt HTTP/2.0\r\nHost: here\r\n\r\n'
raw "http/1.1" 'GET /hello.txt http/1.1\r\nHost: here\r\n\r\n'

echo "--- names"
raw "half an escape, behind a longer name" "GET /subhello.txt HTTP/1.1\r\nHost: here\r\n\r\nGET /%f HTTP/1.0\r\n\r\n"
raw "an escape of nothing" 'GET /hello.txt% HTTP/1.0\r\n\r\n'
raw "a negative one" 'GET /%-1hello.txt HTTP/1.0\r\n\r\n'
raw "a positive one" 'GET /%+fhello.txt HTTP/1.0\r\n\r\n'
raw "of hexadecimals" 'GET /%0xhello.txt HTTP/1.0\r\n\r\n'
raw "of NUL" 'GET /hello.txt%00 HTTP/1.0\r\n\r\n'
raw "of a slash" 'GET /sub%2findex.html HTTP/1.0\r\n\r\n'
raw "of letters" 'GET /h%65ll%6F.txt HTTP/1.0\r\n\r\n'
raw "a link out of the directory" 'GET /link HTTP/1.0\r\n\r\n'
raw "a directory that is a link" 'GET /up/secret HTTP/1.0\r\n\r\n'
raw "a link within" 'GET /alias HTTP/1.0\r\n\r\n'
raw "from the root" 'GET //etc/passwd HTTP/1.0\r\n\r\n'

echo "--- parts"
part() { raw "$1" "GET /hello.txt HTTP/1.0\r\nRange: $1\r\n\r\n" Content-.*; }
part "bytes=-5-3"
part "bytes=--3"
part "bytes=+1-3"
part "bytes= 1-3"
part "bytes=3-1"
part "bytes=-0"
part "bytes=-2"
part "bytes=4-99999999999999999999"
part "bytes=-99999999999999999999"
part "bytes=99999999999999999999-"
part "Bytes=5-5"
part "bytes=0-$(printf '%065d' 0)1,5-5"
raw "two fields" 'GET /hello.txt HTTP/1.0\r\nRange: bytes=1-1\r\nRange: bytes=2-2\r\n\r\n'
raw "of a head" 'HEAD /hello.txt HTTP/1.0\r\nRange: bytes=1-1\r\n\r\n'
raw "if it is what it was" 'GET /hello.txt HTTP/1.0\r\nRange: bytes=1-1\r\nIf-Range: "x"\r\n\r\n'

echo "--- connections: whether the second request is answered"
raw "close among others" "${get}Connection: close, x\r\n\r\n$get$last"
raw "in another spelling" "${get}Connection: x ,\tClose\r\n\r\n$get$last"
raw "in the second field" "${get}Connection: keep-alive\r\nConnection: close\r\n\r\n$get$last"
raw "a longer word" "${get}Connection: closed, x\r\n\r\n$get$last" Connection.*
raw "HTTP/1.0 that stays" "GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n$get$last" Connection.*
raw "a body that is waited for, and not wanted" \
    "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n$get$last"
