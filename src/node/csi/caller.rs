//! Callers that give the socket's path where an authority belongs.
//!
//! The kubelet dials the registration socket by its path, and gRPC for Go then sends the path, its slashes escaped, as
//! the `:authority` of each request. No URI has such an authority, so the HTTP/2 server resets the stream, and the
//! plugin is never registered. Nothing here asks for the authority: a [`Caller`] puts another one in its place, before
//! the server looks.
//!
//! An authority is a string in a block of compressed headers (RFC 7541). The server keeps a table of the strings that
//! it has seen, of limited size, and the caller refers to them by their place, counted from the newest. With a shorter
//! string in its place the server forgets its oldest ones later than the caller thinks, which disturbs nobody: hence
//! only what is longer is replaced.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What a connection begins with, before the first frame.
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame.
const FRAME_HEAD: usize = 9;
/// The longest frame that the server allows; what is longer passes as it is, to be refused there.
const LONGEST_FRAME: usize = 16 * 1024;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Place of `:authority` in the table that is the same for all.
const AUTHORITY_INDEX: usize = 1;
/// What is put in the place of an authority.
const REPLACEMENT: &[u8] = b"unix";
/// Compressed, a printable character takes at most 15 bits: so many bytes are at least as many characters as the
/// replacement has.
const LEAST_REPLACED: usize = 8;

/// A connection whose requests all have an authority that the server accepts.
#[derive(Debug)]
pub struct Caller<C> {
    connection: C,
    requests: Requests,
}

impl<C> Caller<C> {
    /// The caller at the other end of a new connection.
    pub fn new(connection: C) -> Self {
        Self {
            connection,
            requests: Requests {
                unchanged: PREFACE,
                ..Requests::default()
            },
        }
    }
}

/// The bytes of the caller, cut into frames.
#[derive(Debug, Default)]
struct Requests {
    /// Came, and is not looked at yet: less than a frame of headers.
    came: Vec<u8>,
    /// How many of the coming bytes pass as they are.
    unchanged: usize,
    /// To be read by the server, from `read` on.
    ready: Vec<u8>,
    read: usize,
}

impl Requests {
    fn take(&mut self, bytes: &[u8]) {
        self.came.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.came.len() {
            let rest = &self.came[at..];
            if self.unchanged > 0 {
                let passes = rest.len().min(self.unchanged);
                self.ready.extend_from_slice(&rest[..passes]);
                self.unchanged -= passes;
                at += passes;
                continue;
            }
            let Some((head, body)) = rest.split_at_checked(FRAME_HEAD) else {
                break;
            };
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if head[3] != HEADERS || length > LONGEST_FRAME {
                self.unchanged = FRAME_HEAD + length;
                continue;
            }
            let Some(body) = body.get(..length) else {
                break;
            };
            let changed = replace_authority(head[4], body);
            let body = changed.as_deref().unwrap_or(body);
            // It only ever gets shorter.
            let [.., a, b, c] = body.len().to_be_bytes();
            self.ready.extend_from_slice(&[a, b, c]);
            self.ready.extend_from_slice(&head[3..]);
            self.ready.extend_from_slice(body);
            at += FRAME_HEAD + length;
        }
        self.came.drain(..at);
    }

    /// The caller sends no more: what is left is no whole frame.
    fn end(&mut self) {
        self.ready.append(&mut self.came);
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.read..];
        let given = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..given]);
        self.read += given;
        if self.read == self.ready.len() {
            self.ready.clear();
            self.read = 0;
        }
    }
}

/// The body of a frame of headers with another authority; `None` when it is to stay as it is.
fn replace_authority(flags: u8, body: &[u8]) -> Option<Vec<u8>> {
    let padding = flags & PADDED != 0;
    let begin = usize::from(padding) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let end = body.len().checked_sub(if padding {
        usize::from(*body.first()?)
    } else {
        0
    })?;
    let block = body.get(begin..end)?;
    let (from, to) = authority(block)?;
    let mut changed = body[..begin + from].to_vec();
    // Its length, with the bit of compression clear.
    changed.push(u8::try_from(REPLACEMENT.len()).ok()?);
    changed.extend_from_slice(REPLACEMENT);
    changed.extend_from_slice(&body[begin + to..]);
    Some(changed)
}

/// Where in a block of headers the authority stands, with its length in front.
fn authority(block: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        // Each header: a reference alone, or a name (0: that follows) with a value; or a new size of the table.
        let (prefix, has_value) = match first {
            0x80.. => (7, false),
            0x40..0x80 => (6, true),
            0x20..0x40 => (5, false),
            0x00..0x20 => (4, true),
        };
        let (name, next) = integer(block, at, prefix)?;
        at = next;
        if !has_value {
            continue;
        }
        if name == 0 {
            at = string(block, at)?.1;
        }
        let (length, next) = string(block, at)?;
        if name == AUTHORITY_INDEX {
            return (length >= LEAST_REPLACED).then_some((at, next));
        }
        at = next;
    }
}

/// The length of the string at `at`, and where what follows it begins.
fn string(block: &[u8], at: usize) -> Option<(usize, usize)> {
    let (length, next) = integer(block, at, 7)?;
    let end = next.checked_add(length)?;
    (end <= block.len()).then_some((length, end))
}

/// The number whose first `prefix` bits end the byte at `at`, and where what follows it begins.
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut next = at + 1;
    if value < most {
        return Some((value, next));
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(next)?);
        next += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, next));
        }
    }
    None
}

impl<C: AsyncRead + Unpin> AsyncRead for Caller<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let caller = self.get_mut();
        let mut bytes = [0; 4096];
        while caller.requests.ready.is_empty() {
            let mut came = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut caller.connection).poll_read(context, &mut came))?;
            if came.filled().is_empty() {
                caller.requests.end();
                break;
            }
            caller.requests.take(came.filled());
        }
        caller.requests.give(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Caller<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }
}

impl<C: Connected> Connected for Caller<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::transport::Server;

    use super::super::registration::Registration;
    use super::super::registration::wire::registration_server::RegistrationServer;
    use super::*;

    /// As gRPC for Go makes it of the path of a registration socket.
    const ESCAPED_PATH: &str =
        "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fcsi.strata.dev-reg.sock";

    fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let mut frame = vec![0, length[0], length[1], kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(body);
        frame
    }

    fn literal(first: u8, name: Option<&str>, value: &str) -> Vec<u8> {
        let mut bytes = vec![first];
        for text in name.into_iter().chain([value]) {
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// POST, http, the path of `GetInfo`, an authority, and what gRPC wants.
    fn headers(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86];
        block.extend(literal(
            0x44,
            None,
            "/pluginregistration.Registration/GetInfo",
        ));
        block.extend_from_slice(authority);
        block.extend(literal(0x5f, None, "application/grpc"));
        block.extend(literal(0x40, Some("te"), "trailers"));
        block
    }

    /// What the server answers to the first request with this authority: types of frames of its stream.
    async fn answer(authority: &[u8], step: usize) -> Vec<u8> {
        let (mut caller, served) = tokio::io::duplex(1 << 16);
        let registration = Registration {
            driver_name: "csi.strata.dev".to_owned(),
            endpoint: "/csi/csi.sock".into(),
            refused: std::sync::Arc::default(),
        };
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(Caller::new(served)));
        let server = tokio::spawn(
            Server::builder()
                .add_service(RegistrationServer::new(registration))
                .serve_with_incoming(incoming),
        );
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(HEADERS, 0x04, 1, &headers(authority)));
        bytes.extend(frame(0, 0x01, 1, &[0, 0, 0, 0, 0]));
        for piece in bytes.chunks(step) {
            caller.write_all(piece).await.unwrap();
        }
        let mut kinds = Vec::new();
        loop {
            let mut head = [0; FRAME_HEAD];
            caller.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            caller.read_exact(&mut body).await.unwrap();
            if head[8] == 1 {
                kinds.push(head[3]);
                // The stream ends: with a flag, or reset.
                if head[3] == 3 || (head[3] == HEADERS && head[4] & 1 != 0) {
                    break;
                }
            }
        }
        drop(caller);
        server.await.unwrap().unwrap();
        kinds
    }

    #[tokio::test]
    async fn a_path_as_authority_is_accepted() {
        // The kubelet's registration was refused with PROTOCOL_ERROR until there was a Caller.
        let path = literal(0x41, None, ESCAPED_PATH);
        for step in [1, 7, 1 << 16] {
            assert_eq!(answer(&path, step).await, [HEADERS, 0, HEADERS], "{step}");
        }
    }

    #[tokio::test]
    async fn a_proper_authority_is_accepted_as_well() {
        let proper = literal(0x41, None, "localhost");
        assert_eq!(answer(&proper, 5).await, [HEADERS, 0, HEADERS]);
        let short = literal(0x41, None, "a");
        assert_eq!(answer(&short, 5).await, [HEADERS, 0, HEADERS]);
    }

    #[test]
    fn padding_and_priority_are_kept() {
        let block = headers(&literal(0x41, None, ESCAPED_PATH));
        let expected = headers(&literal(0x41, None, "unix"));
        assert_eq!(replace_authority(0x04, &block).unwrap(), expected);
        let mut body = vec![2, 0, 0, 0, 0, 16];
        body.extend_from_slice(&block);
        body.extend_from_slice(&[0, 0]);
        let changed = replace_authority(PADDED | PRIORITY, &body).unwrap();
        assert_eq!(changed[6..changed.len() - 2], expected);
        assert_eq!(changed[..6], body[..6]);
    }

    #[test]
    fn blocks_without_an_authority_and_broken_ones_stay() {
        let whole = headers(&[]);
        assert_eq!(replace_authority(0, &whole), None);
        let path = headers(&literal(0x41, None, ESCAPED_PATH));
        for end in 0..path.len() {
            // Cut anywhere before the authority ends there is nothing to replace, and nothing panics.
            if let Some(changed) = replace_authority(0, &path[..end]) {
                assert!(changed.len() < end);
            }
            drop(replace_authority(PADDED | PRIORITY, &path[..end]));
        }
        assert_eq!(replace_authority(0, &[0xff; 40]), None);
        assert_eq!(replace_authority(0, &[0x7f, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
