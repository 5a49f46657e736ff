//! Serving the API: bounded connections, and little patience with slow askers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use axum::Router;
use futures_util::task::AtomicWaker;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Connections at a time; the next waits until one ends.
const CONNECTIONS_MAX: usize = 512;
/// How long the head of a request may take to arrive, an idle connection included.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves until `stop` is cancelled; open connections end with it.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            () = stop.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(err = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong on a connection is the asker's loss, and only that.
            tokio::select! {
                _ = Eager::new(connection) => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
}

/// A connection that goes on at once when it has woken itself.
///
/// A request's body goes through a channel within its connection, which so wakes itself while it runs. The runtime would
/// put it at the end of its queue each time, and wake another thread to see to that queue.
struct Eager<F> {
    connection: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Times that a connection goes on before others get their turn.
const TURNS_MAX: usize = 8;

impl<F> Eager<F> {
    fn new(connection: F) -> Self {
        let bell = Arc::new(Bell::default());
        Self { connection: Box::pin(connection), waker: bell.clone().into(), bell }
    }
}

impl<F: Future> Future for Eager<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(cx.waker());
        this.bell.running.store(true, Ordering::SeqCst);
        for _ in 0..TURNS_MAX {
            this.bell.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(output) = this.connection.as_mut().poll(&mut Context::from_waker(&this.waker)) {
                return Poll::Ready(output);
            }
            if !this.bell.rung.load(Ordering::SeqCst) {
                break;
            }
        }
        this.bell.running.store(false, Ordering::SeqCst);
        // Rung after the last look, or too often.
        if this.bell.rung.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Notes that a connection is to go on, and wakes its task unless that runs already.
#[derive(Default)]
struct Bell {
    running: AtomicBool,
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.running.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once a future that wakes itself this many times in a row: whether it is done, how often it ran, and how
    /// often its task was woken.
    fn poll_once(wakes_itself: usize) -> (bool, usize, usize) {
        let mut runs = 0;
        let wakes = Arc::new(Wakes::default());
        let ready = {
            let mut eager = Eager::new(poll_fn(|cx| {
                runs += 1;
                if runs > wakes_itself {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }));
            Pin::new(&mut eager).poll(&mut Context::from_waker(&wakes.clone().into())).is_ready()
        };
        (ready, runs, wakes.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_connection_that_wakes_itself_goes_on_without_the_runtime_but_not_for_ever() {
        assert_eq!(poll_once(3), (true, 4, 0));
        assert_eq!(poll_once(1000), (false, TURNS_MAX, 1));
    }

    #[test]
    fn a_connection_that_others_wake_is_run_again() {
        let wakes = Arc::new(Wakes::default());
        let (give, taken) = tokio::sync::oneshot::channel::<()>();
        let mut eager = Eager::new(taken);
        let waker = wakes.clone().into();
        assert!(Pin::new(&mut eager).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        give.send(()).unwrap();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(Pin::new(&mut eager).poll(&mut Context::from_waker(&waker)).is_ready());
    }
}
