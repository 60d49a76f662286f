//! What hyper answers in our name. A head that it cannot read (too large, too many headers, no HTTP) it refuses by itself with
//! a bare 4xx, before any path is known; to a gateway that asks whether a request may go on, a 4xx is a block, and nobody
//! is blocked for what is not their fault. So its own answers leave the process as a 500 with a problem.
//!
//! Their turn distinguishes them from ours: hyper writes after the service was asked, or of its own accord.
//!
//! A client that does not read its answer is cut off here too, for hyper waits for it without an end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

use super::problem::Problem;

/// Whose word it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Turn {
    /// Nobody was asked since the last answer was written.
    Idle,
    /// The service was asked.
    Asked,
    /// It has answered; what is written until all is written is its answer.
    Answered,
}

/// A connection's turn, at first nobody's.
pub(super) fn turn() -> Arc<AtomicU8> {
    Arc::new(AtomicU8::new(Turn::Idle as u8))
}

/// A connection whose answers are ours.
pub(super) struct Door<T> {
    io: T,
    turn: Arc<AtomicU8>,
    /// What is written in the place of hyper's own answer, as far as it is not written yet.
    instead: Vec<u8>,
    /// Whether hyper's own answer was met: the connection ends with it.
    is_last: bool,
    /// How long the client may take to make room for more.
    write_max: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Door<T> {
    pub(super) const fn new(io: T, turn: Arc<AtomicU8>, write_max: Duration) -> Self {
        Self { io, turn, instead: Vec::new(), is_last: false, write_max, waiting: None }
    }

    /// Whether these bytes are hyper's own refusal; what is to be written instead is kept then.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let is_own = self.turn.load(Ordering::Relaxed) == Turn::Idle as u8;
        let refusal = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "));
        if !self.is_last
            && let Some(status @ [b'4', ..]) = refusal.filter(|_| is_own)
        {
            let detail = match status {
                [_, b'3' | b'1', ..] => "the request's head is too large, or has too many headers: send less",
                _ => "this is no HTTP/1.1 request: the head cannot be read",
            };
            self.instead = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).raw();
            self.is_last = true;
        }
        self.is_last
    }
}

impl<T: Write + Unpin> Door<T> {
    /// Writes with `write` as far as the client leaves time for it.
    fn poll_in_time<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let written = write(Pin::new(&mut self.io), cx);
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let write_max = self.write_max;
        ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(write_max))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let instead = std::mem::take(&mut self.instead);
            let written = self.poll_in_time(cx, |io, cx| io.poll_write(cx, &instead));
            self.instead = instead;
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Read + Unpin> Read for Door<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Door<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        self.poll_in_time(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        let (answered, idle) = (Turn::Answered as u8, Turn::Idle as u8);
        // It was asked again meanwhile where this fails: then the next answer is awaited.
        let _ = self.turn.compare_exchange(answered, idle, Ordering::Relaxed, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
        if self.takes(first) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        self.poll_in_time(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_cut_off() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (served, _) = listener.accept().await.unwrap();
            let mut door = Door::new(TokioIo::new(served), turn(), Duration::from_millis(20));
            let bytes = vec![b'x'; 1 << 16];
            let mut sent = 0;
            let error = loop {
                match poll_fn(|cx| Pin::new(&mut door).poll_write(cx, &bytes)).await {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(sent > 0);
            drop(client);
        });
    }
}
