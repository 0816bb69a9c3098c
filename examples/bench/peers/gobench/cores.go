package main

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// What a second core brings; the same work as ../../cores.c, which says more.
func init() {
	reg("sum", 0, func(int) { cores("sum", func() {}, sumRun) })
	reg("quicksort", 0, func(int) { cores("quicksort", keysShuffle, sortRun) })
	reg("pipeline", 0, func(int) { cores("pipeline", func() {}, func(fork bool) { pipeRun(fork, 16) }) })
	reg("pipeline0", 0, func(int) { cores("pipeline0", func() {}, func(fork bool) { pipeRun(fork, 0) }) })
}

// The serial program, one processor and two in turns; the shortest of each.
func cores(name string, before func(), run func(fork bool)) {
	rounds, _ := strconv.Atoi(os.Getenv("ROUNDS"))
	if rounds == 0 {
		rounds = 7
	}
	best := [3]float64{1e30, 1e30, 1e30}
	for i := 0; i < 3*rounds; i++ {
		runtime.GOMAXPROCS(max(i%3, 1))
		before()
		t0 := time.Now()
		run(i%3 > 0)
		best[i%3] = min(best[i%3], float64(time.Since(t0).Nanoseconds())/1e6)
	}
	report(name+"_serial", best[0], "ms")
	report(name+"_1p", best[1], "ms")
	report(name+"_2p", best[2], "ms")
	report(name+"_overhead", (best[1]/best[0]-1)*100, "%")
	report(name+"_speedup", best[0]/best[2], "x")
}

const grain, terms, nkeys, items = 10_000, 100_000_000, 10_000_000, 50_000

//go:noinline
func sumLoop(lo, hi int) uint64 {
	sum := uint64(0)
	for i := lo; i < hi; i++ {
		x := uint64(i)
		x = (x ^ x>>33) * 0xFF51AFD7ED558CCD
		x = (x ^ x>>33) * 0xC4CEB9FE1A85EC53
		sum += x ^ x>>33
	}
	return sum
}

func sumFork(lo, hi int) uint64 {
	if hi-lo < 2*grain {
		return sumLoop(lo, hi)
	}
	mid := lo + (hi-lo)/grain/2*grain
	var right uint64
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		right = sumFork(mid, hi)
		wg.Done()
	}()
	left := sumFork(lo, mid)
	wg.Wait()
	return left + right
}

var known uint64

func same(v uint64) {
	if known == 0 {
		known = v
	}
	if v != known {
		panic("wrong result")
	}
}

func sumRun(fork bool) {
	if fork {
		same(sumFork(0, terms))
	} else {
		same(sumLoop(0, terms))
	}
}

var keys []int32

func keysShuffle() {
	if keys == nil {
		keys = make([]int32, nkeys)
	}
	for i := 1; i < len(keys); i++ {
		if known != 0 && keys[i-1] > keys[i] {
			panic("quicksort")
		}
	}
	known = 1
	x := uint32(2463534242)
	for i := range keys {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		keys[i] = int32(x >> 1)
	}
}

func partition(a []int32, pivot int32) int {
	i, j := 0, len(a)-1
	for {
		for i <= j && a[i] < pivot {
			i++
		}
		for i <= j && a[j] > pivot {
			j--
		}
		if i >= j {
			if i == j {
				return i + 1
			}
			return i
		}
		a[i], a[j] = a[j], a[i]
		i++
		j--
	}
}

func pivotOf(a []int32) int32 {
	x, y, z := a[0], a[len(a)/2], a[len(a)-1]
	return max(min(x, y), min(max(x, y), z))
}

func sortLoop(a []int32) {
	for len(a) > 16 {
		k := partition(a, pivotOf(a))
		if k == len(a) {
			k--
		}
		sortLoop(a[:k])
		a = a[k:]
	}
	for i := 1; i < len(a); i++ {
		for j := i; j > 0 && a[j] < a[j-1]; j-- {
			a[j], a[j-1] = a[j-1], a[j]
		}
	}
}

func partitionFork(a []int32, pivot int32) int {
	if len(a) < nkeys/8 {
		return partition(a, pivot)
	}
	half, left := len(a)/2, 0
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		left = partition(a[:half], pivot)
		wg.Done()
	}()
	right := partition(a[half:], pivot)
	wg.Wait()
	for i := 0; i < min(half-left, right); i++ {
		x, y := left+i, half+right-1-i
		a[x], a[y] = a[y], a[x]
	}
	return left + right
}

func sortFork(a []int32) {
	if len(a) <= grain {
		sortLoop(a)
		return
	}
	k := partitionFork(a, pivotOf(a))
	if k == len(a) {
		sortLoop(a)
		return
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		sortFork(a[k:])
		wg.Done()
	}()
	sortFork(a[:k])
	wg.Wait()
}

func sortRun(fork bool) {
	if fork {
		sortFork(keys)
	} else {
		sortLoop(keys)
	}
}

//go:noinline
func work(x uint64) uint64 {
	for i := uint64(0); i < 1850; i++ {
		x = (x ^ i) * 0x9E3779B97F4A7C15
	}
	return x
}

func pipeRun(fork bool, capacity int) {
	sum := uint64(0)
	if fork {
		c := make(chan uint64, capacity)
		go func() {
			for i := uint64(0); i < items; i++ {
				c <- work(i)
			}
			close(c)
		}()
		for v := range c {
			sum += work(v)
		}
	} else {
		for i := uint64(0); i < items; i++ {
			sum += work(work(i))
		}
	}
	same(sum)
}
