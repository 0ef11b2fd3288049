//! A registry in this process that misbehaves on demand.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::image::{self, Assembled};

/// What happens to the next request whose path contains the text.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// This status, with these further header lines.
    Status(u16, String),
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// So many bytes of the body are sent as if they were all.
    Truncated(usize),
    /// Another body.
    Body(Vec<u8>),
    /// The range asked for is not honoured.
    NoRange,
    /// No answer ever.
    Silence,
    /// So many bytes of the body at once, and then one at a time, for ever, with a pause after each.
    Drip(usize),
    /// This status before the request's body was read; the connection then breaks.
    Early(u16),
    /// The request is read and carried out, and the connection breaks without an answer.
    Unanswered,
}

/// What is needed to be let in.
#[derive(Clone, Debug)]
pub enum Door {
    Open,
    Basic(String),
    /// Bearer tokens, given by this server's own `/token` to this `Authorization` (or to anybody).
    Token(Option<String>),
    /// Bearer tokens for an identity token posted to `/token`.
    Identity(String),
}

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct State {
    door: Door,
    pub(super) objects: BTreeMap<String, (String, Vec<u8>)>,
    mishaps: VecDeque<(String, Mishap)>,
    seen: Vec<Seen>,
    tokens: usize,
    /// Requests that a token is good for.
    token_uses: usize,
    /// What uploads have brought so far, by their number.
    pub(super) uploads: BTreeMap<usize, Vec<u8>>,
    pub(super) begun: usize,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                door: Door::Open,
                objects: BTreeMap::new(),
                mishaps: VecDeque::new(),
                seen: Vec::new(),
                tokens: 0,
                token_uses: usize::MAX,
                uploads: BTreeMap::new(),
                begun: 0,
            })),
        };
        let serving = server.clone();
        // Ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (serving.clone(), stream.unwrap());
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        server
    }

    /// Serves the image of a layout's first manifest as `repository:tag`.
    pub fn add_layout(&self, layout: &Path, repository: &str, tag: &str) {
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let entry = &index["manifests"][0];
        let manifest = entry["digest"].as_str().unwrap();
        let kind = entry["mediaType"].as_str().unwrap();
        let mut state = self.state.lock().unwrap();
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let digest = format!("sha256:{}", blob.file_name().to_str().unwrap());
            let bytes = fs::read(blob.path()).unwrap();
            if digest == manifest {
                let value = (kind.to_owned(), bytes.clone());
                for target in [tag, &digest] {
                    let path = format!("/v2/{repository}/manifests/{target}");
                    state.objects.insert(path, value.clone());
                }
            }
            let path = format!("/v2/{repository}/blobs/{digest}");
            state
                .objects
                .insert(path, ("application/octet-stream".into(), bytes));
        }
    }

    /// Serves the image by its digest.
    pub fn add_image(&self, repository: &str, image: &Assembled) {
        let manifest = &image.built.manifest;
        self.add_manifest(
            repository,
            &image.built.manifest_digest,
            image.format.manifest(),
            manifest,
        );
        let mut state = self.state.lock().unwrap();
        for bytes in &image.blobs {
            let path = format!("/v2/{repository}/blobs/{}", image::digest(bytes));
            state
                .objects
                .insert(path, ("application/octet-stream".into(), bytes.clone()));
        }
    }

    /// Serves a manifest or an index.
    pub fn add_manifest(&self, repository: &str, target: &str, kind: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{target}");
        let mut state = self.state.lock().unwrap();
        state.objects.insert(path, (kind.to_owned(), bytes.into()));
    }

    pub fn set_door(&self, door: Door) {
        self.state.lock().unwrap().door = door;
    }

    pub fn set_token_uses(&self, uses: usize) {
        self.state.lock().unwrap().token_uses = uses;
    }

    pub fn mishap(&self, path: &str, mishap: Mishap) {
        let mut state = self.state.lock().unwrap();
        state.mishaps.push_back((path.to_owned(), mishap));
    }

    pub fn forget_mishaps(&self) {
        self.state.lock().unwrap().mishaps.clear();
    }

    /// What is kept at a path, and what it is.
    pub fn object(&self, path: &str) -> Option<(String, Vec<u8>)> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// The requests with this method whose path contains the text.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen();
        let is_meant = |seen: &&Seen| seen.method == method && seen.path.contains(part);
        seen.iter().filter(is_meant).count()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let Some(mut seen) = read_head(&mut reader)? else {
                return Ok(());
            };
            if let Some(status) = self.early(&seen) {
                return respond(&mut stream, status, "Connection: close\r\n", b"{}");
            }
            read_body(&mut reader, &mut seen)?;
            let goes_on = self.answer(&seen, &mut stream)?;
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// The status that is to be told before the body is read.
    fn early(&self, seen: &Seen) -> Option<u16> {
        let mut state = self.state.lock().unwrap();
        let at = state.mishaps.iter().position(|(part, mishap)| {
            matches!(mishap, Mishap::Early(_)) && seen.path.contains(part.as_str())
        })?;
        match state.mishaps.remove(at) {
            Some((_, Mishap::Early(status))) => {
                state.seen.push(seen.clone());
                Some(status)
            }
            _ => None,
        }
    }

    /// False when the connection is to be closed.
    fn answer(&self, seen: &Seen, stream: &mut TcpStream) -> std::io::Result<bool> {
        let (mishap, refusal, object) = {
            let mut state = self.state.lock().unwrap();
            state.seen.push(seen.clone());
            let path = seen.path.split('?').next().unwrap();
            if path == "/token" {
                let (status, body) = state.token(seen);
                drop(state);
                return respond(stream, status, "", body.as_bytes()).map(|()| true);
            }
            let refusal = state.refusal(seen, self.address);
            let at = state
                .mishaps
                .iter()
                .position(|(part, _)| refusal.is_none() && seen.path.contains(part.as_str()));
            let mishap = at
                .and_then(|at| state.mishaps.remove(at))
                .map(|(_, mishap)| mishap);
            (mishap, refusal, state.objects.get(path).cloned())
        };
        let is_head = seen.method == "HEAD";
        if let Some(challenge) = refusal {
            let header = format!("WWW-Authenticate: {challenge}\r\n");
            let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"go away"}]}"#;
            let body: &[u8] = if is_head { b"" } else { body };
            return respond(stream, 401, &header, body).map(|()| true);
        }
        if let Some(Mishap::Status(status, headers)) = &mishap {
            let body: &[u8] = if is_head { b"" } else { b"{}" };
            return respond(stream, *status, headers, body).map(|()| true);
        }
        if matches!(mishap, Some(Mishap::Silence)) {
            // Until the other side gives up.
            std::io::copy(stream, &mut std::io::sink())?;
            return Ok(false);
        }
        if seen.method != "GET" {
            let (status, headers) = self.state.lock().unwrap().carry_out(seen);
            if matches!(mishap, Some(Mishap::Unanswered)) {
                stream.shutdown(std::net::Shutdown::Both)?;
                return Ok(false);
            }
            if seen.method == "HEAD" {
                let head = format!("HTTP/1.1 {status} X\r\n{headers}\r\n");
                return stream.write_all(head.as_bytes()).map(|()| true);
            }
            return respond(stream, status, &headers, b"").map(|()| true);
        }
        let Some((kind, mut bytes)) = object else {
            return respond(stream, 404, "", b"{}").map(|()| true);
        };
        let mut headers = format!("Content-Type: {kind}\r\n");
        let mut status = 200;
        let from = seen.headers.get("range").and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
        if let Some(from) = from
            && !matches!(mishap, Some(Mishap::NoRange))
        {
            status = 206;
            headers += &format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            );
            bytes.drain(..from);
        }
        match mishap {
            Some(Mishap::Body(body)) => bytes = body,
            Some(Mishap::Truncated(length)) => bytes.truncate(length),
            Some(Mishap::Drip(length)) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n",
                    bytes.len()
                );
                stream.write_all(head.as_bytes())?;
                stream.write_all(&bytes[..length])?;
                // It fails when nobody listens any more.
                for byte in &bytes[length..] {
                    stream.write_all(std::slice::from_ref(byte))?;
                    thread::sleep(std::time::Duration::from_millis(50));
                }
                return Ok(false);
            }
            Some(Mishap::Cut(length)) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n",
                    bytes.len()
                );
                stream.write_all(head.as_bytes())?;
                stream.write_all(&bytes[..length])?;
                stream.shutdown(std::net::Shutdown::Both)?;
                return Ok(false);
            }
            _ => {}
        }
        respond(stream, status, &headers, &bytes).map(|()| true)
    }
}

impl State {
    /// The challenge for a request that may not pass.
    fn refusal(&mut self, seen: &Seen, address: SocketAddr) -> Option<String> {
        let given = seen.headers.get("authorization");
        match &self.door {
            Door::Open => None,
            Door::Basic(wanted) => (given != Some(wanted)).then(|| r#"Basic realm="x""#.to_owned()),
            Door::Token(_) | Door::Identity(_) => {
                let wanted = format!("Bearer token-{}", self.tokens);
                if given == Some(&wanted) && self.tokens > 0 && self.token_uses > 0 {
                    self.token_uses -= 1;
                    return None;
                }
                Some(format!(
                    r#"Bearer realm="http://{address}/token",service="test",scope="repository:a/b:pull""#
                ))
            }
        }
    }

    fn token(&mut self, seen: &Seen) -> (u16, String) {
        let is_welcome = match &self.door {
            Door::Token(wanted) => {
                seen.method == "GET" && wanted.as_ref() == seen.headers.get("authorization")
            }
            Door::Identity(token) => {
                let body = String::from_utf8_lossy(&seen.body);
                seen.method == "POST" && body.contains(&format!("refresh_token={token}"))
            }
            _ => false,
        };
        if !is_welcome {
            return (401, r#"{"details":"no token for you"}"#.to_owned());
        }
        self.tokens += 1;
        if self.tokens > 1 {
            self.token_uses = usize::MAX;
        }
        (
            200,
            format!(r#"{{"token":"token-{}","expires_in":300}}"#, self.tokens),
        )
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let mut seen = Seen {
        method: words.next().unwrap_or("").to_owned(),
        path: words.next().unwrap_or("").to_owned(),
        ..Seen::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        seen.headers.insert(name, value);
    }
    Ok(Some(seen))
}

fn read_body(reader: &mut BufReader<TcpStream>, seen: &mut Seen) -> std::io::Result<()> {
    if seen.headers.contains_key("transfer-encoding") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            std::io::Read::read_exact(reader, &mut chunk)?;
            seen.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(());
            }
        }
    }
    if let Some(length) = seen.headers.get("content-length") {
        seen.body = vec![0; length.parse().unwrap()];
        std::io::Read::read_exact(reader, &mut seen.body)?;
    }
    Ok(())
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
