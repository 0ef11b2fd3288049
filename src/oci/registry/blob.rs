//! A blob's stream: fetched by a task, read by a blocking thread, with a bounded queue between.
//!
//! A stream that is cut is resumed where it stopped; one that is too slow is given up. Whoever reads it checks the digest of the
//! whole, so a resumed part can't smuggle anything in.

use std::io::{self, Read};

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;

use super::pace::{Pace, Stopped};
use super::{Registry, header};
use crate::oci::manifest::Descriptor;
use crate::oci::source::SourceError;

/// Pieces in the queue; the HTTP library's pieces have at most some hundred KiB.
const QUEUED: usize = 8;
/// The most times that one blob is resumed, however much each attempt brings.
const MOST_RESUMPTIONS: u32 = 100;

/// The reading end; dropping it ends the download.
pub(super) struct Reader {
    queue: mpsc::Receiver<Piece>,
    current: Bytes,
    is_done: bool,
}

/// What the task sends. The end is told, so that a task that vanishes is no end.
enum Piece {
    Bytes(Bytes),
    End,
    Failed(SourceError),
}

/// Starts the download. The first answer is awaited, so that a missing blob is an error here.
pub(super) fn open(registry: &Registry, descriptor: &Descriptor) -> Result<Reader, SourceError> {
    let (sender, queue) = mpsc::channel(QUEUED);
    let download = Download {
        registry: registry.clone(),
        descriptor: descriptor.clone(),
        what: format!(
            "the blob {} of {}",
            descriptor.digest,
            registry.0.reference.without_target()
        ),
        count: 0,
        pace: Pace::new(registry.0.transport.options()),
        sender,
    };
    let runtime = &registry.0.runtime;
    let first = runtime.block_on(download.request())?;
    runtime.spawn(download.run(first));
    Ok(Reader {
        queue,
        current: Bytes::new(),
        is_done: false,
    })
}

struct Download {
    registry: Registry,
    descriptor: Descriptor,
    what: String,
    count: u64,
    /// Of all answers together: one that resumes a slow one is not given another start.
    pace: Pace,
    sender: mpsc::Sender<Piece>,
}

/// How one answer's stream came to its end.
enum Ended {
    Whole,
    /// The reader is gone.
    Unwanted,
    Cut(String),
}

impl Download {
    async fn request(&self) -> Result<Response, SourceError> {
        let from = (self.count > 0).then_some(self.count);
        let path = format!("blobs/{}", self.descriptor.digest);
        let response = self.registry.get(&path, None, from, &self.what).await?;
        // Only the whole has a length that must be the blob's.
        if from.is_none()
            && let Some(length) = response.content_length()
            && length != self.descriptor.size
        {
            return Err(SourceError::corrupt(
                &self.what,
                format_args!("it has {length} bytes instead of {}", self.descriptor.size),
            ));
        }
        Ok(response)
    }

    async fn run(mut self, first: Response) {
        let last = match self.fetch(first).await {
            Ok(Ended::Unwanted) => return,
            Ok(_) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        // A reader that is gone needs no last word.
        drop(self.sender.send(last).await);
    }

    async fn fetch(&mut self, first: Response) -> Result<Ended, SourceError> {
        let options = self.registry.0.transport.options().clone();
        let mut response = first;
        let mut skip = 0;
        let mut failures = 0;
        let mut resumptions = 0;
        loop {
            let before = self.count;
            let detail = match self.forward(response, skip).await? {
                Ended::Cut(detail) => detail,
                ended => return Ok(ended),
            };
            failures = if self.count > before { 1 } else { failures + 1 };
            resumptions += 1;
            if failures >= options.attempts.max(1) || resumptions > MOST_RESUMPTIONS {
                return Err(SourceError::unavailable(&self.what, detail));
            }
            tracing::debug!(
                what = self.what,
                at = self.count,
                detail,
                "stream was cut, resuming"
            );
            tokio::time::sleep(options.pause(failures, None)).await;
            response = self.request().await?;
            skip = self.already_sent(&response)?;
        }
    }

    /// How many bytes at the start of an answer to a resumption came before already.
    fn already_sent(&self, response: &Response) -> Result<u64, SourceError> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.count);
        }
        let start: Option<u64> =
            header(response.headers(), CONTENT_RANGE.as_str()).and_then(|range| {
                range
                    .strip_prefix("bytes ")?
                    .split_once('-')?
                    .0
                    .parse()
                    .ok()
            });
        match start {
            Some(start) if start <= self.count => Ok(self.count - start),
            _ => Err(SourceError::corrupt(
                &self.what,
                "the registry resumed it at another place than asked for",
            )),
        }
    }

    /// Passes an answer's bytes on, but for the first `skip`.
    async fn forward(
        &mut self,
        mut response: Response,
        mut skip: u64,
    ) -> Result<Ended, SourceError> {
        let size = self.descriptor.size;
        loop {
            let mut bytes = match self.pace.next(&mut response).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if self.count == size => return Ok(Ended::Whole),
                Ok(None) => {
                    return Ok(Ended::Cut(format!(
                        "it ended after {} of {size} bytes",
                        self.count
                    )));
                }
                // Everything is there: that the connection broke afterwards is no matter.
                Err(_) if self.count == size => return Ok(Ended::Whole),
                Err(Stopped::Cut(detail)) => return Ok(Ended::Cut(detail)),
                Err(Stopped::Slow(detail)) => {
                    return Err(SourceError::unavailable(&self.what, detail));
                }
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            skip -= known as u64;
            drop(bytes.split_to(known));
            if bytes.is_empty() {
                continue;
            }
            self.count += bytes.len() as u64;
            if self.count > size {
                return Err(SourceError::corrupt(
                    &self.what,
                    format_args!("it has more than {size} bytes"),
                ));
            }
            if self.sender.send(Piece::Bytes(bytes)).await.is_err() {
                return Ok(Ended::Unwanted);
            }
        }
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while self.current.is_empty() && !self.is_done {
            match self.queue.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.is_done = true,
                Some(Piece::Failed(error)) => return Err(error.into()),
                None => {
                    return Err(
                        SourceError::unavailable("the blob", "its download was ended").into(),
                    );
                }
            }
        }
        let length = self.current.len().min(bytes.len());
        bytes[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
