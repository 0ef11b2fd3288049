//! Tar-split: recipes from which the exact archive of a layer is rebuilt out of its files.
//!
//! A recipe is a gzip stream of JSON objects, one a line, as Go's `vbatts/tar-split` writes them: *segments* hold
//! the raw bytes between payloads, *file entries* a name, a size and a checksum. Our lines equal Go's but where
//! Go's recipe would rebuild another archive: a sparse file's stored bytes are kept in segments (Go notes the
//! expanded file), and a member that can't have a payload has size 0 whatever its header says.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::names::{NameSet, confine};
use super::write_behind::WriteBehind;

mod reassemble;

pub use reassemble::{ReassembleError, reassemble};

/// Segments are cut at this length.
pub(super) const MAX_SEGMENT: usize = 1 << 20;

/// Longer lines are damage: the longest segment of Go's is bounded by its headers of 1 MiB each.
const MAX_LINE: u64 = 256 << 20;

const TYPE_FILE: u32 = 1;
const TYPE_SEGMENT: u32 = 2;

/// The checksum of a payload: CRC-64/GO-ISO.
pub struct Checksum(crc_fast::Digest);

impl Checksum {
    /// Of nothing yet.
    #[expect(clippy::new_without_default, reason = "a sum that is begun, no value")]
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64GoIso))
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum as it is written.
    pub fn finish(self) -> [u8; 8] {
        self.0.finalize().to_be_bytes()
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Checksum")
    }
}

/// Two members have the same name; their contents can't be told apart in a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "duplicates of file paths not supported: {}",
    String::from_utf8_lossy(name)
)]
pub struct DuplicateName {
    /// The name as the second member has it.
    pub name: Vec<u8>,
}

/// Writes a recipe.
pub struct Writer<W: Write + Send + 'static> {
    out: WriteBehind<flate2::write::GzEncoder<BufWriter<W>>>,
    line: Vec<u8>,
    position: u64,
    names: NameSet,
}

impl<W: Write + Send + 'static> std::fmt::Debug for Writer<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send + 'static> Writer<W> {
    /// Writes to `out`, gzip-compressed at the fastest level as Go does, on a thread of its own.
    pub fn new(out: W) -> Self {
        // The encoder passes on the little that each write makes.
        let out = BufWriter::with_capacity(64 * 1024, out);
        let out = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        Self {
            out: WriteBehind::new(out),
            line: Vec::new(),
            position: 0,
            names: NameSet::default(),
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.extend_from_slice(b",\"position\":");
        self.line
            .extend_from_slice(self.position.to_string().as_bytes());
        self.line.extend_from_slice(b"}\n");
        self.position += 1;
        self.out.write_all(&self.line)
    }

    /// Notes bytes that belong to no payload.
    ///
    /// # Errors
    /// When the recipe can't be written.
    pub fn segment(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(MAX_SEGMENT) {
            self.line.clear();
            self.line.extend_from_slice(b"{\"type\":2,\"payload\":\"");
            push_base64(&mut self.line, piece);
            self.line.push(b'"');
            self.end_line()?;
        }
        Ok(())
    }

    /// Takes the name of a member into account: false when another has it already.
    ///
    /// Names are compared as the tree knows them, so `/f` and `../f` equal `f`.
    pub fn claim(&mut self, name: &[u8]) -> bool {
        self.names.insert(&confine(name))
    }

    /// Notes a member whose name was claimed, with the checksum of its payload if it has any.
    ///
    /// # Errors
    /// When the recipe can't be written.
    pub fn file(&mut self, name: &[u8], size: u64, checksum: Option<[u8; 8]>) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(b"{\"type\":1");
        match std::str::from_utf8(name) {
            Ok("") => {}
            Ok(name) => {
                self.line.extend_from_slice(b",\"name\":");
                push_json(&mut self.line, name);
            }
            Err(_) => {
                self.line.extend_from_slice(b",\"name_raw\":\"");
                push_base64(&mut self.line, name);
                self.line.push(b'"');
            }
        }
        match checksum.filter(|_| size > 0) {
            Some(checksum) => {
                self.line.extend_from_slice(b",\"size\":");
                self.line.extend_from_slice(size.to_string().as_bytes());
                self.line.extend_from_slice(b",\"payload\":\"");
                push_base64(&mut self.line, &checksum);
                self.line.push(b'"');
            }
            None => self.line.extend_from_slice(b",\"payload\":null"),
        }
        self.end_line()
    }

    /// Ends the recipe and gives back the output.
    ///
    /// # Errors
    /// When the recipe can't be written.
    pub fn finish(self) -> io::Result<W> {
        let out = self.out.finish()?.finish()?;
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

fn push_base64(line: &mut Vec<u8>, bytes: &[u8]) {
    let start = line.len();
    line.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64
        .encode_slice(bytes, &mut line[start..])
        .expect("the room was made from the length");
    line.truncate(start + written);
}

/// A JSON string as Go writes it, which escapes what HTML and JavaScript might take amiss.
fn push_json(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    for character in text.chars() {
        match character {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\n' => line.extend_from_slice(b"\\n"),
            '\r' => line.extend_from_slice(b"\\r"),
            '\t' => line.extend_from_slice(b"\\t"),
            '\u{8}' => line.extend_from_slice(b"\\b"),
            '\u{c}' => line.extend_from_slice(b"\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                line.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            _ => {
                let mut buffer = [0; 4];
                line.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    line.push(b'"');
}

/// One line of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Bytes that belong to no payload.
    Segment(Vec<u8>),
    /// A member; its payload is the file of that name.
    File {
        /// The name as the archive has it.
        name: Vec<u8>,
        /// How long the payload is.
        size: u64,
        /// The checksum of the payload, when there is one.
        checksum: Option<[u8; 8]>,
    },
}

#[derive(Deserialize)]
struct RawLine {
    #[serde(rename = "type")]
    kind: u32,
    #[serde(default)]
    name: String,
    #[serde(default)]
    name_raw: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    payload: Option<String>,
}

/// Why a recipe can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream failed or is no gzip stream.
    #[error("read the tar-split file")]
    Read(#[source] io::Error),
    /// A line says nothing that a recipe may say.
    #[error("line {line} of the tar-split file is malformed")]
    Malformed {
        /// Which, from 1.
        line: u64,
    },
    /// Two members have the same name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateName),
}

/// A recipe's lines on their way out of its gzip stream.
type Inflated<R> = flate2::bufread::MultiGzDecoder<BufReader<R>>;

fn inflate<R: Read>(recipe: R) -> Inflated<R> {
    flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, recipe))
}

/// Reads a recipe line by line.
pub struct Reader<R: Read> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    names: NameSet,
}

impl<R: Read> std::fmt::Debug for Reader<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Reader<Inflated<R>> {
    /// Reads the gzip stream `recipe`.
    pub fn new(recipe: R) -> Self {
        Self::inflated(inflate(recipe))
    }
}

impl<R: Read> Reader<R> {
    fn inflated(lines: R) -> Self {
        Self {
            input: BufReader::with_capacity(64 * 1024, lines),
            line: Vec::new(),
            number: 0,
            names: NameSet::default(),
        }
    }

    /// The next line; `None` behind the last.
    ///
    /// # Errors
    /// When the recipe can't be read or is malformed.
    pub fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        loop {
            self.line.clear();
            let read = (&mut self.input)
                .take(MAX_LINE)
                .read_until(b'\n', &mut self.line)
                .map_err(ReadError::Read)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self
            .parse()
            .ok_or(ReadError::Malformed { line: self.number })?;
        if let Line::File { name, .. } = &line {
            // Go tells absolute names from relative ones here, and so have its recipes both.
            let mut key = confine(name);
            key.push(if name.starts_with(b"/") { b'/' } else { b'.' });
            if !self.names.insert(&key) {
                return Err(DuplicateName { name: name.clone() }.into());
            }
        }
        Ok(Some(line))
    }

    fn parse(&self) -> Option<Line> {
        let raw: RawLine = serde_json::from_slice(&self.line).ok()?;
        let payload = BASE64.decode(raw.payload.unwrap_or_default()).ok()?;
        match raw.kind {
            TYPE_SEGMENT => Some(Line::Segment(payload)),
            TYPE_FILE => {
                let name = if raw.name_raw.is_empty() {
                    raw.name.into_bytes()
                } else {
                    BASE64.decode(raw.name_raw).ok()?
                };
                let checksum = match raw.size {
                    0 => None,
                    _ => Some(payload.try_into().ok()?),
                };
                Some(Line::File {
                    name,
                    size: raw.size,
                    checksum,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> [u8; 8] {
        let mut sum = Checksum::new();
        sum.update(bytes);
        sum.finish()
    }

    fn text(recipe: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(recipe)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn checksums_are_those_of_go() {
        assert_eq!(
            sum(b"hello\n"),
            [0x61, 0x4c, 0x3e, 0xee, 0xe2, 0xd8, 0x10, 0]
        );
        assert_eq!(sum(b"x"), [0x23, 0x10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            sum(b"123456789"),
            [0xb9, 0x09, 0x56, 0xc7, 0x75, 0xa4, 0x10, 0x01]
        );
        assert_eq!(sum(b""), [0; 8]);
    }

    #[test]
    fn lines_are_written_as_go_writes_them() {
        let mut writer = Writer::new(Vec::new());
        writer.segment(b"\0\0\0").unwrap();
        writer.segment(b"").unwrap();
        writer.file(b"./d/", 0, None).unwrap();
        writer
            .file(
                "a<&>\"\\\n\u{1}\u{2028}ü".as_bytes(),
                6,
                Some(sum(b"hello\n")),
            )
            .unwrap();
        writer.file(b"./d/\xff\xfe", 0, None).unwrap();
        writer.file(b"", 0, None).unwrap();
        let expected = concat!(
            r#"{"type":2,"payload":"AAAA","position":0}"#,
            "\n",
            r#"{"type":1,"name":"./d/","payload":null,"position":1}"#,
            "\n",
            r#"{"type":1,"name":"a\u003c\u0026\u003e\"\\\n\u0001\u2028ü","size":6,"payload":"YUw+7uLYEAA=","position":2}"#,
            "\n",
            r#"{"type":1,"name_raw":"Li9kL//+","payload":null,"position":3}"#,
            "\n",
            r#"{"type":1,"payload":null,"position":4}"#,
            "\n",
        );
        let recipe = writer.finish().unwrap();
        assert_eq!(text(&recipe), expected);
        let mut reader = Reader::new(&*recipe);
        assert_eq!(
            reader.next_line().unwrap(),
            Some(Line::Segment(vec![0, 0, 0]))
        );
        reader.next_line().unwrap();
        assert_eq!(
            reader.next_line().unwrap(),
            Some(Line::File {
                name: "a<&>\"\\\n\u{1}\u{2028}ü".as_bytes().to_vec(),
                size: 6,
                checksum: Some(sum(b"hello\n"))
            })
        );
    }

    #[test]
    fn a_name_is_claimed_once_however_it_is_written() {
        let mut writer = Writer::new(Vec::new());
        assert!(writer.claim(b"./a/b"));
        for name in [&b"a/b"[..], b"/a//b", b"../a/b/", b"a/c/../b"] {
            assert!(!writer.claim(name));
        }
    }

    #[test]
    fn a_recipe_rebuilds_the_bytes_and_notices_changes() {
        let mut writer = Writer::new(Vec::new());
        writer.segment(b"<head>").unwrap();
        writer.file(b"f", 5, Some(sum(b"hello"))).unwrap();
        writer.segment(b"<tail>").unwrap();
        let recipe = writer.finish().unwrap();
        let rebuild = |contents: &'static [u8]| {
            let mut out = Vec::new();
            reassemble(
                &*recipe,
                &mut |name| {
                    assert_eq!(name, b"f");
                    Ok(contents)
                },
                &mut out,
            )
            .map(|_| out)
        };
        assert_eq!(rebuild(b"hello").unwrap(), b"<head>hello<tail>");
        for contents in [&b"hellO"[..], b"hell", b"hello "] {
            let error = rebuild(contents).unwrap_err();
            assert_eq!(
                error.to_string(),
                "file integrity checksum failed for \"f\""
            );
        }
    }

    #[test]
    fn malformed_recipes_are_refused() {
        for line in [
            "{}",
            "[]",
            r#"{"type":3}"#,
            r#"{"type":2,"payload":"!"}"#,
            r#"{"type":1,"name":"f","size":1,"payload":"AAAA"}"#,
            r#"{"type":1,"name":"f","size":-1}"#,
            "{\"type\":1,\"name\":\"f\"}\n{\"type\":1,\"name\":\"./f\"}",
        ] {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(line.as_bytes()).unwrap();
            let recipe = gzip.finish().unwrap();
            let open = &mut |_: &[u8]| -> io::Result<&[u8]> { Ok(&[]) };
            assert!(reassemble(&*recipe, open, io::sink()).is_err(), "{line}");
        }
    }
}
