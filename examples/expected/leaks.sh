# The report at the end comes on stderr, with numbers that differ from run to run.
CSP_DEBUG=leaks "$1/leaks" 2>&1 | sed '/^    #[0-9]/d; s/0x[0-9a-f]*/ADDRESS/; s/, [0-9.]* s]/, a while]/; s/goroutine [0-9]*/goroutine N/; s/ at [^ ]*leaks.c:[0-9]*$/ at leaks.c:LINE/'
