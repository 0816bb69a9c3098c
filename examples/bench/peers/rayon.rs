// rayon.rs - rows of specialists.c, and examples/parallel, with Rayon: `rayon ROW [N]`. CSP_PROCS says
// how many threads.
use rayon::prelude::*;
use std::time::Instant;

fn timed<T>(name: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    println!("{} {:.3} ms", name, start.elapsed().as_secs_f64() * 1e3);
    result
}

fn fib(n: u32) -> i64 {
    if n < 2 {
        return n as i64;
    }
    let (a, b) = rayon::join(|| fib(n - 1), || fib(n - 2));
    a + b
}

// Ten children at each node, by a loop over them; and by a task for each.
fn tree(depth: u32) -> i64 {
    if depth == 0 {
        return 1;
    }
    let mut results = [0; 10];
    results.par_iter_mut().for_each(|r| *r = tree(depth - 1));
    1 + results.iter().sum::<i64>()
}

fn tree_go(depth: u32) -> i64 {
    if depth == 0 {
        return 1;
    }
    let mut results = [0; 10];
    rayon::scope(|s| {
        for r in results.iter_mut() {
            s.spawn(move |_| *r = tree_go(depth - 1));
        }
    });
    1 + results.iter().sum::<i64>()
}

fn trees(name: &str, depth: u32) {
    let expected: i64 = (0..=depth).map(|i| 10i64.pow(i)).sum();
    assert_eq!(timed(name, || if name == "tree" { tree(depth) } else { tree_go(depth) }), expected);
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    let rss = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init().ru_maxrss
    };
    println!("{}_rss {:.1} MB", name, rss as f64 / 1024.0);
}

fn sum(n: usize) {
    let v: Vec<i32> = (0..n).map(|i| (i % 1000) as i32).collect();
    let add = |part: &[i32]| part.iter().map(|&x| x as i64).sum::<i64>();
    let result: i64 = timed("sum", || v.par_chunks(10000).map(add).sum());
    assert_eq!(result, add(&v));
}

fn matrix(n: usize) {
    let a: Vec<f64> = (0..n * n).map(|i| (i % 7) as f64).collect();
    let b: Vec<f64> = (0..n * n).map(|i| (i % 5) as f64).collect();
    let mut c = vec![0.0; n * n];
    timed("matrix", || {
        c.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
            for k in 0..n {
                let x = a[i * n + k];
                for (r, y) in row.iter_mut().zip(&b[k * n..(k + 1) * n]) {
                    *r += x * y;
                }
            }
        })
    });
}

// examples/parallel/quicksort.c, with slices.
fn insertion_sort(v: &mut [i32]) {
    for i in 1..v.len() {
        let x = v[i];
        let mut k = i;
        while k > 0 && v[k - 1] > x {
            v[k] = v[k - 1];
            k -= 1;
        }
        v[k] = x;
    }
}

fn middle_of(a: i32, b: i32, c: i32) -> i32 {
    if a > b {
        return middle_of(b, a, c);
    }
    if c < a {
        a
    } else if c > b {
        b
    } else {
        c
    }
}

fn partition(v: &mut [i32], pivot: i32) -> usize {
    let mut at = 0;
    for i in 0..v.len() {
        let x = v[i];
        v[i] = v[at];
        v[at] = x;
        at += (x < pivot) as usize;
    }
    at
}

fn partition_together(v: &mut [i32], pivot: i32) -> usize {
    let half = v.len() / 2;
    let (a, b) = v.split_at_mut(half);
    let (left, right) = rayon::join(|| partition(a, pivot), || partition(b, pivot));
    let wrong = (half - left).min(right);
    let (x, y) = (&mut a[left..left + wrong], &mut b[right - wrong..right]);
    x.par_iter_mut().zip(y).for_each(|(x, y)| std::mem::swap(x, y));
    left + right
}

fn quicksort(mut v: &mut [i32]) {
    const SMALL: usize = 32;
    const SERIAL: usize = 2000;
    const TOGETHER: usize = 200000;
    while v.len() > SMALL {
        let n = v.len();
        let pivot = middle_of(v[n / 4], v[n / 2], v[n - n / 4]);
        let below = if n >= TOGETHER { partition_together(v, pivot) } else { partition(v, pivot) };
        let mut same = below;
        if below == 0 {
            for i in 0..n {
                if v[i] == pivot {
                    v.swap(i, same);
                    same += 1;
                }
            }
        }
        let (front, rest) = v.split_at_mut(same);
        if below > SERIAL && n - same > SERIAL {
            rayon::join(|| quicksort(front), || quicksort(rest));
            return;
        }
        quicksort(&mut front[..below]);
        v = rest;
    }
    insertion_sort(v);
}

fn quicksorts(n: usize) {
    let mut x = 1u32;
    let mut next = || {
        x = x.wrapping_mul(1664525).wrapping_add(1013904223);
        (x >> 1) as i32
    };
    let mut v: Vec<i32> = (0..n).map(|_| next()).collect();
    timed("quicksort", || quicksort(&mut v));
    assert!(v.windows(2).all(|w| w[0] <= w[1]));
}

// The library's own, which is stable.
fn sort(n: usize) {
    let mut x = 1u32;
    let mut next = |i| {
        x = x.wrapping_mul(1664525).wrapping_add(1013904223);
        (i as i32, (x >> 16) as i32 % 100)
    };
    let mut people: Vec<(i32, i32)> = (0..n).map(|i| next(i)).collect();
    timed("sort", || people.par_sort_by(|a, b| a.1.cmp(&b.1)));
    assert!(people.windows(2).all(|w| (w[0].1, w[0].0) < (w[1].1, w[1].0)));
}

fn main() {
    let procs = std::env::var("CSP_PROCS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let args: Vec<String> = std::env::args().collect();
    let row = args.get(1).map(String::as_str).unwrap_or("");
    let n: usize = args.get(2).and_then(|s| s.parse().ok()).unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(procs).build().unwrap();
    pool.install(|| match row {
        "fib" => assert!(timed(row, || fib(n as u32)) > 0),
        "tree" | "tree_go" => trees(row, n as u32),
        "sum" => sum(n),
        "matrix" => matrix(n),
        "quicksort" => quicksorts(n),
        "sort" => sort(n),
        _ => panic!("rayon: fib, tree, sum, matrix, quicksort or sort, and N"),
    });
}
