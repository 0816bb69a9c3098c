# The report at the end comes on stderr, with numbers that differ from run to run.
CSP_DEBUG=leaks "$1/leaks" 2>&1 | sed 's/0x[0-9a-f]*/ADDRESS/; s/, [0-9.]* s]/, a while]/; s/goroutine [0-9]*/goroutine N/; s/leaks.c:[0-9]*/leaks.c:LINE/; s,[a-z./]*leaks.c,leaks.c,'
