package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

func init() {
	reg("ctx_cancel", 5_000_000, ctxCancel)
	reg("ctx_tree", 10_000, ctxTree)
	reg("map_mixed", 10_000_000, mapMixed)
	reg("map_hot", 20_000_000, mapHot)
	reg("pool_get_put", 20_000_000, poolGetPut)
	reg("group_go", 1_000_000, groupGo)
}

// n contexts made and cancelled, each below one that lives.
func ctxCancel(n int) {
	parent, stop := context.WithCancel(context.Background())
	t0 := time.Now()
	for i := 0; i < n; i++ {
		_, cancel := context.WithCancel(parent)
		cancel()
	}
	perOp("ctx_cancel", time.Since(t0), n)
	stop()
}

// A tree of n contexts, ten below each, is cancelled at its root.
func ctxTree(n int) {
	best := time.Hour
	tree := make([]context.Context, n)
	for round := 0; round < 20; round++ {
		var root context.CancelFunc
		tree[0], root = context.WithCancel(context.Background())
		for i := 1; i < n; i++ {
			tree[i], _ = context.WithCancel(tree[(i-1)/10])
		}
		t0 := time.Now()
		root()
		if d := time.Since(t0); d < best {
			best = d
		}
		if tree[n-1].Err() == nil {
			panic("ctx_tree")
		}
	}
	report("ctx_tree", float64(best.Nanoseconds())/1e6, "ms")
}

// n operations on 100,000 string keys by 2 goroutines: 90 % loads, the rest stores.
func mapMixed(n int) {
	const K = 100000
	keys := make([]string, K)
	var m sync.Map
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i)
		m.Store(keys[i], &keys[i])
	}
	var wg sync.WaitGroup
	wg.Add(2)
	t0 := time.Now()
	for g := 0; g < 2; g++ {
		go func() {
			x := uint32(2463534242 + g*7919)
			for i := 0; i < n/2; i++ {
				x ^= x << 13
				x ^= x >> 17
				x ^= x << 5
				k := x % K
				if (x>>16)%10 != 0 {
					if _, ok := m.Load(keys[k]); !ok {
						panic("map")
					}
				} else {
					m.Store(keys[k], &keys[k])
				}
			}
			wg.Done()
		}()
	}
	wg.Wait()
	perOp("map_mixed", time.Since(t0), n)
}

// n loads of one key by 2 goroutines.
func mapHot(n int) {
	var m sync.Map
	m.Store("the key", nil)
	var wg sync.WaitGroup
	wg.Add(2)
	t0 := time.Now()
	for g := 0; g < 2; g++ {
		go func() {
			for i := 0; i < n/2; i++ {
				if _, ok := m.Load("the key"); !ok {
					panic("map")
				}
			}
			wg.Done()
		}()
	}
	wg.Wait()
	perOp("map_hot", time.Since(t0), n)
}

// n items got and put back by one goroutine.
func poolGetPut(n int) {
	p := sync.Pool{New: func() any { return new([64]byte) }}
	t0 := time.Now()
	for i := 0; i < n; i++ {
		p.Put(p.Get())
	}
	perOp("pool_get_put", time.Since(t0), n)
}

// n functions in groups of 100: what errgroup does, with the standard library.
type group struct {
	wg     sync.WaitGroup
	once   sync.Once
	err    error
	cancel context.CancelFunc
}

func (g *group) Go(f func() error) {
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		if err := f(); err != nil {
			g.once.Do(func() {
				g.err = err
				g.cancel()
			})
		}
	}()
}

func (g *group) Wait() error {
	g.wg.Wait()
	g.cancel()
	return g.err
}

func groupGo(n int) {
	t0 := time.Now()
	for i := 0; i < n/100; i++ {
		g := new(group)
		_, g.cancel = context.WithCancel(context.Background())
		for k := 0; k < 100; k++ {
			g.Go(func() error { return nil })
		}
		if g.Wait() != nil {
			panic("group")
		}
	}
	perOp("group_go", time.Since(t0), n/100*100)
}
