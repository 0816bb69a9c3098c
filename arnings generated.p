 *                    10 ms, one of each start site; leaks: when main returns, the goroutines that
