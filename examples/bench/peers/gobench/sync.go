package main

import (
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	free := func(name string, n int, op func(i int, n int)) {
		reg(name, n, func(n int) {
			t0 := time.Now()
			op(0, n)
			perOp(name, time.Since(t0), n)
		})
	}
	by8 := func(name string, n int, op func(i int, n int)) {
		reg(name, n, func(n int) {
			var wg sync.WaitGroup
			wg.Add(8)
			t0 := time.Now()
			for g := 0; g < 8; g++ {
				go func() {
					op(0, n/8)
					wg.Done()
				}()
			}
			wg.Wait()
			perOp(name, time.Since(t0), n)
		})
	}
	free("mutex_free", 50_000_000, opMutex)
	by8("mutex_8", 20_000_000, opMutex)
	by8("rw_8", 20_000_000, opRW)
	free("once_free", 100_000_000, opOnce)
	free("wg_free", 20_000_000, opWG)
	free("wg_park", 2_000_000, opWGPark)
	free("sem_free", 20_000_000, opSem)
	by8("sem_8", 5_000_000, opSem)
	reg("cond_pingpong", 2_000_000, condPingPong)
	reg("mutex_fair", 1000, mutexFair)
}

var (
	mu    sync.Mutex
	rw    sync.RWMutex
	once  sync.Once
	wgAll sync.WaitGroup
	sem   = make(chan struct{}, 1)
	count int64
)

func opMutex(i, n int) {
	for ; i < n; i++ {
		mu.Lock()
		count++
		mu.Unlock()
	}
}

func opRW(i, n int) {
	for ; i < n; i++ {
		if i%1000 == 0 {
			rw.Lock()
			count++
			rw.Unlock()
		} else {
			rw.RLock()
			if count < 0 {
				panic("rw")
			}
			rw.RUnlock()
		}
	}
}

func opOnce(i, n int) {
	for ; i < n; i++ {
		once.Do(func() {})
	}
}

func opWG(i, n int) {
	for ; i < n; i++ {
		wgAll.Add(1)
		wgAll.Done()
		wgAll.Wait()
	}
}

func opWGPark(i, n int) {
	for ; i < n; i++ {
		wgAll.Go(func() {})
		wgAll.Wait()
	}
}

// A semaphore of 1, as the standard library has it: a channel with room for one.
func opSem(i, n int) {
	for ; i < n; i++ {
		sem <- struct{}{}
		count++
		<-sem
	}
}

// Two goroutines wait for their turn, n times in all.
func condPingPong(n int) {
	cond := sync.NewCond(&mu)
	turn := 0
	var wg sync.WaitGroup
	wg.Add(2)
	t0 := time.Now()
	for me := 0; me < 2; me++ {
		go func() {
			for i := 0; i < n/2; i++ {
				mu.Lock()
				for turn != me {
					cond.Wait()
				}
				turn = 1 - me
				cond.Signal()
				mu.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	perOp("cond_pingpong", time.Since(t0), n)
}

// The longest of n waits for a mutex that a hot locker keeps taking.
func mutexFair(n int) {
	var hot atomic.Bool
	var longest time.Duration
	hot.Store(true)
	done := make(chan struct{})
	go func() {
		for hot.Load() {
			mu.Lock()
			for i := 0; i < 20000; i++ {
				atomic.StoreInt64(&count, int64(i))
			}
			mu.Unlock()
		}
		close(done)
	}()
	for i := 0; i < n; i++ {
		time.Sleep(10 * time.Microsecond)
		t0 := time.Now()
		mu.Lock()
		if d := time.Since(t0); d > longest {
			longest = d
		}
		mu.Unlock()
	}
	hot.Store(false)
	<-done
	report("mutex_fair", float64(longest.Nanoseconds())/1e6, "ms")
}
