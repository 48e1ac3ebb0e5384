//! A stream whose peer must go on reading.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream on which a write fails when the peer takes nothing for so long. (hyper limits how long a peer may take to ask, not to listen.)
pub(super) struct Stalling<S> {
    stream: S,
    most: Duration,
    /// Until when the write that waits may wait.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    pub(super) fn new(stream: S, most: Duration) -> Stalling<S> {
        Stalling { stream, most, waiting: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let most = self.most;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(most)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("the peer took nothing for {} s", most.as_secs()))))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, outcome)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::net::UnixStream;

    use super::*;

    const MOST: Duration = Duration::from_millis(400);
    const PAGE: usize = 4 << 20;

    async fn write_page(ours: StdUnixStream) -> io::Result<()> {
        ours.set_nonblocking(true)?;
        let mut stream = Stalling::new(UnixStream::from_std(ours)?, MOST);
        let mut left = PAGE;
        while left > 0 {
            left -= poll_fn(|context| Pin::new(&mut stream).poll_write(context, &vec![7; left])).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_is_served_and_one_that_does_not_is_not() {
        let (ours, mut theirs) = StdUnixStream::pair().unwrap();
        let slow = std::thread::spawn(move || {
            let (mut piece, mut read) = (vec![0; 64 << 10], 0);
            while read < PAGE {
                std::thread::sleep(MOST / 40);
                read += theirs.read(&mut piece).unwrap();
            }
        });
        write_page(ours).await.unwrap();
        slow.join().unwrap();
        let (ours, _theirs) = StdUnixStream::pair().unwrap();
        assert_eq!(write_page(ours).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
