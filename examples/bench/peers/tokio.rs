// tokio.rs - rows of bench.c with Tokio: `tokio ROW [N]`. CSP_PROCS says how many workers there are;
// everything runs on them, the row's own function too. (The runtime of the current thread alone has
// quicker yields, and takes eight times as long for the tree of channels.)
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, Mutex};
use tokio::task::{yield_now, JoinHandle};

fn per_op(name: &str, start: Instant, n: usize) {
    println!("{} {:.3} ns/op", name, start.elapsed().as_secs_f64() * 1e9 / n as f64);
}

fn milliseconds(name: &str, start: Instant) {
    println!("{} {:.3} ms", name, start.elapsed().as_secs_f64() * 1e3);
}

fn usage() -> libc::rusage {
    let mut u = std::mem::MaybeUninit::<libc::rusage>::uninit();
    unsafe {
        libc::getrusage(libc::RUSAGE_SELF, u.as_mut_ptr());
        u.assume_init()
    }
}

fn cpu_seconds() -> f64 {
    let u = usage();
    (u.ru_utime.tv_sec + u.ru_stime.tv_sec) as f64
        + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) as f64 / 1e6
}

async fn all(handles: Vec<JoinHandle<()>>) {
    for h in handles {
        h.await.unwrap();
    }
}

async fn ctx_switch(n: usize) {
    let start = Instant::now();
    let yields = move || async move {
        for _ in 0..n / 2 {
            yield_now().await;
        }
    };
    all((0..2).map(|_| tokio::spawn(yields())).collect()).await;
    per_op("ctx_switch", start, n);
}

// Tokio has no channel without a buffer: the least is one place.
async fn chan_pingpong(n: usize) {
    let (a, mut a_in) = mpsc::channel::<i32>(1);
    let (b, mut b_in) = mpsc::channel::<i32>(1);
    let pong = tokio::spawn(async move {
        while let Some(v) = a_in.recv().await {
            b.send(v + 1).await.unwrap();
        }
    });
    let mut v = 0;
    let start = Instant::now();
    for _ in 0..n {
        a.send(v).await.unwrap();
        v = b_in.recv().await.unwrap();
    }
    per_op("chan_pingpong", start, n);
    assert_eq!(v as usize, n);
    drop(a);
    pong.await.unwrap();
}

async fn chan_buffered(n: usize) {
    let (a, mut a_in) = mpsc::channel::<i32>(128);
    let start = Instant::now();
    tokio::spawn(async move {
        for i in 0..n {
            a.send(i as i32).await.unwrap();
        }
    });
    let mut sum = 0i64;
    while let Some(v) = a_in.recv().await {
        sum += v as i64;
    }
    per_op("chan_buffered", start, n);
    assert_eq!(sum as usize, n * (n - 1) / 2);
}

// Tokio's channel has one receiver; this is its users' usual one with several.
async fn chan_mpmc(n: usize) {
    let (a, a_in) = async_channel::bounded::<i32>(128);
    let start = Instant::now();
    let consumers: Vec<JoinHandle<i64>> = (0..4)
        .map(|_| {
            let c = a_in.clone();
            tokio::spawn(async move {
                let mut sum = 0;
                while let Ok(v) = c.recv().await {
                    sum += v as i64;
                }
                sum
            })
        })
        .collect();
    for i in 0..4 {
        let a = a.clone();
        tokio::spawn(async move {
            for v in (i..n).step_by(4) {
                a.send(v as i32).await.unwrap();
            }
        });
    }
    drop(a);
    let mut sum = 0;
    for c in consumers {
        sum += c.await.unwrap();
    }
    per_op("chan_mpmc", start, n);
    assert_eq!(sum as usize, n * (n - 1) / 2);
}

async fn select4(n: usize) {
    let mut inputs = Vec::new();
    let start = Instant::now();
    for i in 0..4 {
        let (a, a_in) = mpsc::channel::<i32>(1);
        inputs.push(a_in);
        tokio::spawn(async move {
            for v in (i..n).step_by(4) {
                a.send(v as i32).await.unwrap();
            }
        });
    }
    let mut d = inputs.pop().unwrap();
    let mut c = inputs.pop().unwrap();
    let mut b = inputs.pop().unwrap();
    let mut a = inputs.pop().unwrap();
    let mut sum = 0i64;
    for _ in 0..n {
        sum += tokio::select! {
            Some(v) = a.recv() => v,
            Some(v) = b.recv() => v,
            Some(v) = c.recv() => v,
            Some(v) = d.recv() => v,
        } as i64;
    }
    per_op("select4", start, n);
    assert_eq!(sum as usize, n * (n - 1) / 2);
}

async fn spawn_join(n: usize) {
    let start = Instant::now();
    for _ in 0..n / 1000 {
        all((0..1000).map(|_| tokio::spawn(async {})).collect()).await;
    }
    per_op("spawn_join", start, n / 1000 * 1000);
}

fn skynet_node(
    out: mpsc::Sender<i64>,
    number: i64,
    size: i64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if size == 1 {
            out.send(number).await.unwrap();
            return;
        }
        let (a, mut a_in) = mpsc::channel(1);
        for i in 0..10 {
            tokio::spawn(skynet_node(a.clone(), number + i * (size / 10), size / 10));
        }
        drop(a);
        let mut sum = 0;
        while let Some(v) = a_in.recv().await {
            sum += v;
        }
        out.send(sum).await.unwrap();
    })
}

async fn skynet(n: usize) {
    let (a, mut a_in) = mpsc::channel(1);
    let start = Instant::now();
    tokio::spawn(skynet_node(a, 0, n as i64));
    let sum = a_in.recv().await.unwrap();
    milliseconds("skynet", start);
    assert_eq!(sum as usize, n * (n - 1) / 2);
}

// Ten children at each node, a task each, joined by their handles.
fn tree(depth: u32) -> Pin<Box<dyn Future<Output = i64> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..10).map(|_| tokio::spawn(tree(depth - 1))).collect();
        let mut sum = 1;
        for c in children {
            sum += c.await.unwrap();
        }
        sum
    })
}

async fn tree_go(depth: usize) {
    let start = Instant::now();
    let count = tokio::spawn(tree(depth as u32)).await.unwrap();
    milliseconds("tree_go", start);
    println!("tree_go_rss {:.1} MB", usage().ru_maxrss as f64 / 1024.0);
    assert_eq!(count, (0..=depth as u32).map(|i| 10i64.pow(i)).sum::<i64>());
}

async fn sieve(n: usize) {
    let (a, mut input) = mpsc::channel::<i32>(1);
    let mut prime = 0;
    let start = Instant::now();
    tokio::spawn(async move {
        let mut i = 2;
        while a.send(i).await.is_ok() {
            i += 1;
        }
    });
    for _ in 0..n {
        let (out, next) = mpsc::channel::<i32>(1);
        let mut from = std::mem::replace(&mut input, next);
        prime = from.recv().await.unwrap();
        tokio::spawn(async move {
            while let Some(i) = from.recv().await {
                if i % prime != 0 && out.send(i).await.is_err() {
                    break;
                }
            }
        });
    }
    milliseconds("sieve", start);
    assert!(n != 2000 || prime == 17389);
}

async fn mutex_8(n: usize) {
    let count = Arc::new(Mutex::new(0));
    let start = Instant::now();
    let tasks = (0..8).map(|_| {
        let count = count.clone();
        tokio::spawn(async move {
            for _ in 0..n / 8 {
                *count.lock().await += 1;
            }
        })
    });
    all(tasks.collect()).await;
    per_op("mutex_8", start, n);
    assert_eq!(*count.lock().await, n / 8 * 8);
}

async fn sleepers(n: usize) {
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let tasks = (0..n as u32).map(|i| {
        let mut x = i.wrapping_mul(2654435761).wrapping_add(1);
        tokio::spawn(async move {
            for _ in 0..10 {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                tokio::time::sleep(Duration::from_millis(x as u64 % 100 + 1)).await;
            }
        })
    });
    all(tasks.collect()).await;
    println!("sleepers_cpu {:.3} s", cpu_seconds() - cpu);
    println!("sleepers_wall {:.3} s", start.elapsed().as_secs_f64());
}

// A server and n clients in this process, for two seconds.
async fn echo(n: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            s.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                loop {
                    match s.read(&mut buffer).await {
                        Ok(k) if k > 0 => s.write_all(&buffer[..k]).await.unwrap(),
                        _ => break,
                    }
                }
            });
        }
    });
    let mut sockets = Vec::new();
    for _ in 0..n {
        let s = TcpStream::connect(address).await.unwrap();
        s.set_nodelay(true).unwrap();
        sockets.push(s);
    }
    let start = Instant::now();
    let clients: Vec<JoinHandle<u64>> = sockets
        .into_iter()
        .map(|mut s| {
            tokio::spawn(async move {
                let (out, mut back) = ([0; 64], [0; 64]);
                let mut k = 0;
                while start.elapsed() < Duration::from_secs(2) {
                    s.write_all(&out).await.unwrap();
                    s.read_exact(&mut back).await.unwrap();
                    k += 1;
                }
                k
            })
        })
        .collect();
    let mut total = 0;
    for c in clients {
        total += c.await.unwrap();
    }
    println!("echo {:.3} req/s", total as f64 / start.elapsed().as_secs_f64());
}

fn main() {
    let procs = std::env::var("CSP_PROCS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let args: Vec<String> = std::env::args().collect();
    let row = args.get(1).cloned().unwrap_or_default();
    let n: usize = args.get(2).and_then(|s| s.parse().ok()).unwrap_or(1000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(procs)
        .enable_all()
        .build()
        .unwrap();
    let work = async move {
        match row.as_str() {
            "ctx_switch" => ctx_switch(n).await,
            "chan_pingpong" => chan_pingpong(n).await,
            "chan_buffered" => chan_buffered(n).await,
            "chan_mpmc" => chan_mpmc(n).await,
            "select4" => select4(n).await,
            "spawn_join" => spawn_join(n).await,
            "skynet" => skynet(n).await,
            "tree_go" => tree_go(n).await,
            "sieve" => sieve(n).await,
            "mutex_8" => mutex_8(n).await,
            "sleepers" => sleepers(n).await,
            "echo" => echo(n).await,
            _ => panic!("tokio: no such row"),
        }
    };
    runtime.block_on(async { tokio::spawn(work).await.unwrap() });
    std::process::exit(0); // what runs still is of no interest
}
