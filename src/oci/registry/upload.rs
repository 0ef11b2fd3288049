//! The registry as a [`Destination`]: blobs are streamed up as they are made, and begun anew when a
//! connection breaks.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::client::{Request, chain, may_pass};
use super::{Registry, detail, header};
use crate::digest::Digest;
use crate::oci::destination::{Content, Destination, HashingWriter};
use crate::oci::manifest::Descriptor;
use crate::oci::source::{Resolved, SourceError};
use crate::sys;

const BINARY: &str = "application/octet-stream";
/// Pieces that wait to be sent.
const QUEUED: usize = 4;
/// The size of a piece.
const PIECE: usize = 256 * 1024;

impl Destination for Registry {
    fn takes_docker(&self) -> bool {
        true
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        self.0.runtime.block_on(async {
            Ok(self.has(&blob.digest, Some(blob.size)).await? || self.mount(&blob.digest).await)
        })
    }

    fn put_blob(&self, what: &str, content: &Content<'_>) -> Result<(Digest, u64), SourceError> {
        let options = self.0.transport.options();
        let mut failures = 0;
        loop {
            let mut measured = None;
            let error = match self.upload(what, content, &mut measured) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            failures += 1;
            if !matches!(error, SourceError::Unavailable { .. })
                || failures >= options.attempts.max(1)
            {
                return Err(error);
            }
            tracing::debug!(what, %error, failures, "upload failed, trying again");
            let pause = options.pause(failures, None);
            // Within the runtime, which has the clock.
            self.0
                .runtime
                .block_on(async { tokio::time::sleep(pause).await });
            // The answer alone may have been lost.
            if let Some((digest, size)) = measured
                && self.0.runtime.block_on(self.has(&digest, Some(size)))?
            {
                return Ok((digest, size));
            }
        }
    }

    fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SourceError> {
        let what = format!("the blob {digest}");
        let size = Some(bytes.len() as u64);
        self.0.runtime.block_on(async {
            if self.has(digest, size).await? {
                return Ok(());
            }
            let place = self.begin(&what).await?;
            let body = Bytes::copy_from_slice(bytes);
            match self.finish(place, digest, body, &what).await {
                // A repeated request finds its upload gone when the first one was heard after all.
                Err(_) if self.has(digest, size).await? => Ok(()),
                result => result,
            }
        })
    }

    fn publish(&self, manifest: &Resolved) -> Result<(), SourceError> {
        let reference = &self.0.reference;
        let what = reference.to_string();
        self.0.runtime.block_on(async {
            let url = self.address(&format!("manifests/{}", reference.target()), &what)?;
            let request = Request {
                method: Method::PUT,
                body: Some((
                    manifest.media_type.clone(),
                    Bytes::copy_from_slice(&manifest.bytes),
                )),
                ..Request::default()
            };
            let response = self.exchange(&url, request, &what).await?;
            let response = self.accepted(response, &what).await?;
            self.check_told(&response, &manifest.digest, &what)
        })
    }
}

impl Registry {
    /// Whether the repository has the blob.
    async fn has(&self, digest: &Digest, size: Option<u64>) -> Result<bool, SourceError> {
        let what = format!("the blob {digest} of {}", self.0.reference.without_target());
        let url = self.address(&format!("blobs/{digest}"), &what)?;
        let request = Request {
            method: Method::HEAD,
            ..Request::default()
        };
        let response = self.exchange(&url, request, &what).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let response = self.accepted(response, &what).await?;
        let told = header(response.headers(), "content-length").and_then(|text| text.parse().ok());
        Ok(size.is_none() || told.is_none() || told == size)
    }

    /// Asks the registry to take the blob from another repository of its own. Whatever it answers but
    /// "done" means that the blob has to be sent.
    async fn mount(&self, digest: &Digest) -> bool {
        let repositories = self.0.neighbours.get(digest);
        for from in repositories.into_iter().flatten() {
            match self.try_mount(digest, from).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::debug!(%digest, from, %error, "blob can't be mounted"),
            }
        }
        false
    }

    async fn try_mount(&self, digest: &Digest, from: &str) -> Result<bool, SourceError> {
        let what = format!("the blob {digest} of {from}");
        let mut url = self.address("blobs/uploads/", &what)?;
        url.query_pairs_mut()
            .append_pair("mount", digest.as_str())
            .append_pair("from", from);
        let response = self.exchange(&url, post(), &what).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        if response.status().is_success() {
            // It began an upload instead.
            self.abandon(place(&url, &response)?).await;
        }
        Ok(false)
    }

    /// Ends an upload that is not wanted. The registry does that itself some day.
    async fn abandon(&self, place: Url) {
        let request = Request {
            method: Method::DELETE,
            ..Request::default()
        };
        if let Err(error) = self.exchange(&place, request, "an upload").await {
            tracing::debug!(%error, "an upload is left to the registry");
        }
    }

    /// Begins an upload: where to send the blob.
    async fn begin(&self, what: &str) -> Result<Url, SourceError> {
        let url = self.address("blobs/uploads/", what)?;
        let response = self.exchange(&url, post(), what).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(SourceError::NotFound {
                what: format!(
                    "the repository {}{}",
                    self.0.reference.without_target(),
                    detail(response).await
                ),
            });
        }
        let response = self.accepted(response, what).await?;
        place(&url, &response)
    }

    /// One attempt. The blob is `measured` as soon as all of it was written.
    fn upload(
        &self,
        what: &str,
        content: &Content<'_>,
        measured: &mut Option<(Digest, u64)>,
    ) -> Result<(Digest, u64), SourceError> {
        let runtime = &self.0.runtime;
        let place = runtime.block_on(self.begin(what))?;
        let (sender, queue) = mpsc::channel(QUEUED);
        let (sent, written) = std::thread::scope(|scope| {
            let writing = std::thread::Builder::new()
                .name("upload".into())
                .spawn_scoped(scope, || write(content, sender));
            let sent = runtime.block_on(self.send(&place, queue, what));
            let written = writing.map(|writing| {
                writing
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            (sent, written)
        });
        let written = match written {
            Ok(written) => written,
            Err(error) => return Err(SourceError::unavailable(what, error)),
        };
        if let Err(Unwritten::Failed(error)) = written {
            runtime.block_on(self.abandon(place));
            return Err(sys::Error::new("read", what, error).into());
        }
        let place = sent?;
        let Ok((digest, size)) = written else {
            return Err(SourceError::unavailable(what, "the upload was cut"));
        };
        *measured = Some((digest.clone(), size));
        let empty = Bytes::new();
        runtime.block_on(self.finish(place, &digest, empty, what))?;
        Ok((digest, size))
    }

    /// Sends what comes out of the queue; where the upload has to be finished.
    async fn send(
        &self,
        place: &Url,
        queue: mpsc::Receiver<Piece>,
        what: &str,
    ) -> Result<Url, SourceError> {
        let inner = &*self.0;
        let login = self.login();
        let watch = Arc::new(Watch::default());
        let body = Body::wrap_stream(Pieces {
            queue,
            watch: Arc::clone(&watch),
        });
        let mut request = inner
            .transport
            .streaming(Method::PATCH, place)?
            .header(CONTENT_TYPE, BINARY)
            .body(body);
        if place.origin() == inner.base.origin()
            && let Some(value) = inner.authorization(&login)?
        {
            request = request.header(AUTHORIZATION, value);
        }
        let mut sending = std::pin::pin!(request.send());
        let options = inner.transport.options();
        let mut before = None;
        let mut answering = std::time::Duration::ZERO;
        let response = loop {
            tokio::select! {
                answer = &mut sending => {
                    let unsent = |error: reqwest::Error| {
                        SourceError::unavailable(what, chain(&error.without_url()))
                    };
                    break answer.map_err(unsent)?;
                }
                () = tokio::time::sleep(options.stall_timeout) => {}
            }
            let now = watch.sent.load(Ordering::Relaxed);
            if watch.has_ended.load(Ordering::Relaxed) {
                answering += options.stall_timeout;
                if answering >= options.answer_timeout {
                    return Err(SourceError::unavailable(
                        what,
                        "the registry does not answer",
                    ));
                }
            } else if before == Some(now) && !watch.is_waiting.load(Ordering::Relaxed) {
                return Err(SourceError::unavailable(
                    what,
                    "the registry takes no more bytes",
                ));
            }
            before = Some(now);
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            // The token ran out at this very moment: with a new one, from the beginning.
            self.log_in(&login, response).await?;
            return Err(SourceError::unavailable(what, "the login ran out"));
        }
        let response = self.accepted(response, what).await?;
        self::place(place, &response)
    }

    /// Ends an upload: `body` is what is still to be sent.
    async fn finish(
        &self,
        mut place: Url,
        digest: &Digest,
        body: Bytes,
        what: &str,
    ) -> Result<(), SourceError> {
        place
            .query_pairs_mut()
            .append_pair("digest", digest.as_str());
        let request = Request {
            method: Method::PUT,
            body: Some((BINARY.to_owned(), body)),
            ..Request::default()
        };
        let response = self.exchange(&place, request, what).await?;
        if response.status() == StatusCode::NOT_FOUND {
            let text = detail(response).await;
            let lost = format_args!("the registry has lost the upload{text}");
            return Err(SourceError::unavailable(what, lost));
        }
        let response = self.accepted(response, what).await?;
        self.check_told(&response, digest, what)
    }

    /// Turns an answer that is no success into an error that says what to do.
    async fn accepted(&self, response: Response, what: &str) -> Result<Response, SourceError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let host = self.0.reference.host().to_owned();
        let what = what.to_owned();
        if status == StatusCode::FORBIDDEN {
            return Err(SourceError::Denied {
                host,
                what: format!("{what}{}", detail(response).await),
            });
        }
        if may_pass(status) || status.is_server_error() {
            let text = detail(response).await;
            let detail = format!("the registry answered {status}{text}");
            return Err(SourceError::Unavailable { what, detail });
        }
        let reason = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                "it is larger than the registry, or a proxy before it, allows".to_owned()
            }
            StatusCode::METHOD_NOT_ALLOWED => "the registry can only be read".to_owned(),
            status => format!("it answered {status}"),
        };
        let detail = format!("{reason}{}", detail(response).await);
        Err(SourceError::Refused { host, what, detail })
    }

    /// The digest that the registry found, if it tells, is ours.
    fn check_told(
        &self,
        response: &Response,
        digest: &Digest,
        what: &str,
    ) -> Result<(), SourceError> {
        let told = header(response.headers(), "docker-content-digest");
        match told.and_then(|text| text.parse::<Digest>().ok()) {
            Some(told) if told.algorithm() == digest.algorithm() && told != *digest => {
                let detail = format_args!("the registry found {told} and was sent {digest}");
                Err(SourceError::corrupt(what, detail))
            }
            _ => Ok(()),
        }
    }
}

fn post() -> Request {
    Request {
        method: Method::POST,
        body: Some((BINARY.to_owned(), Bytes::new())),
        ..Request::default()
    }
}

/// Where an upload goes on.
fn place(from: &Url, response: &Response) -> Result<Url, SourceError> {
    let told = header(response.headers(), LOCATION.as_str());
    told.and_then(|target| next_place(from, target))
        .ok_or_else(|| {
            SourceError::unavailable("an upload", "the registry names no usable place for it")
        })
}

/// The place `target` as seen from `from`. What began encrypted stays so: a registry behind a proxy
/// may not know that it is encrypted.
fn next_place(from: &Url, target: &str) -> Option<Url> {
    let to = from.join(target).ok()?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Some(to),
        ("https", "http") if from.host() == to.host() => {
            let mut encrypted = from.clone();
            encrypted.set_path(to.path());
            encrypted.set_query(to.query());
            Some(encrypted)
        }
        _ => None,
    }
}

/// A part of a blob on its way. The end is told, so that a writer that vanishes is no end.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Why a blob was not written to its end.
enum Unwritten {
    /// Nobody takes it any more.
    Unwanted,
    /// It can't be made.
    Failed(io::Error),
}

/// Writes the blob into the queue; its digest and size.
fn write(content: &Content<'_>, queue: mpsc::Sender<Piece>) -> Result<(Digest, u64), Unwritten> {
    let mut out = HashingWriter::new(Queue {
        queue,
        piece: BytesMut::with_capacity(PIECE),
        is_closed: false,
    });
    let result = content(&mut out);
    let (digest, size, mut out) = out.finish();
    match result {
        Err(_) if out.is_closed => Err(Unwritten::Unwanted),
        Err(error) => Err(Unwritten::Failed(error)),
        Ok(()) => match out.pass_on().and_then(|()| out.send(Piece::End)) {
            Ok(()) => Ok((digest, size)),
            Err(_) => Err(Unwritten::Unwanted),
        },
    }
}

/// Gathers pieces and waits while the queue is full.
struct Queue {
    queue: mpsc::Sender<Piece>,
    piece: BytesMut,
    is_closed: bool,
}

impl Queue {
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        self.queue.blocking_send(piece).map_err(|_| {
            self.is_closed = true;
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }

    fn pass_on(&mut self) -> io::Result<()> {
        match self.piece.is_empty() {
            true => Ok(()),
            false => {
                let full = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE));
                self.send(Piece::Bytes(full.freeze()))
            }
        }
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.pass_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the sending goes on, for whoever watches over it.
#[derive(Debug, Default)]
struct Watch {
    sent: AtomicU64,
    /// The connection wants more, and there is nothing yet.
    is_waiting: AtomicBool,
    has_ended: AtomicBool,
}

/// The queue as the body of a request.
struct Pieces {
    queue: mpsc::Receiver<Piece>,
    watch: Arc<Watch>,
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.queue.poll_recv(context);
        let watch = &self.watch;
        watch
            .is_waiting
            .store(polled.is_pending(), Ordering::Relaxed);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Piece::Bytes(bytes))) => {
                watch.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Piece::End)) => {
                watch.has_ended.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
            Poll::Ready(None) => Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_encrypted_stays_so() {
        let next = |from: &str, target: &str| {
            next_place(&Url::parse(from).unwrap(), target).map(|to| to.to_string())
        };
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(
            next("http://127.0.0.1:1/v2/a/", "/v2/a/b?_state=x%3D"),
            found("http://127.0.0.1:1/v2/a/b?_state=x%3D")
        );
        assert_eq!(
            next("https://a.io/v2/", "https://storage.io/x"),
            found("https://storage.io/x")
        );
        assert_eq!(
            next("https://a.io:8443/v2/", "http://a.io/v2/up?s=1"),
            found("https://a.io:8443/v2/up?s=1")
        );
        assert_eq!(next("https://a.io/v2/", "http://b.io/x"), None);
        assert_eq!(next("http://127.0.0.1/", "file:///etc/passwd"), None);
    }
}
