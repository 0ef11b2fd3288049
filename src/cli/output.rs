//! [`Output`]: lines and JSON on stdout and stderr, as the peer writes them.

use std::fmt::{self, Display, Write as _};
use std::io::{self, BufWriter, Stderr, Stdout, Write};

use serde::Serialize;

use super::definition::Flag;
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use crate::sys::{self, File};

/// The flag that asks for JSON.
pub const JSON: &[Flag] = &[Flag::switch("json", Some('j'), "Print JSON")];

/// The flag that names a file to write.
pub const FILE: &[Flag] = &[Flag::value(
    "file",
    Some('f'),
    "Write to a file instead of stdout",
)];

/// A file that is written instead of stdout: its errors name it.
#[derive(Debug)]
pub struct OutputFile(pub File);

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes);
        written.map_err(|error| sys::Error::new("write", self.0.path(), error).into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The two streams of the process; only the command line holds one.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<Stdout>,
    err: Stderr,
}

impl Output {
    /// Over the streams of the process.
    pub fn new() -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout()),
            err: io::stderr(),
        }
    }

    /// A line on stdout.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::stdout)
    }

    /// A line of these parts on stdout: without what formatting costs, for long lists.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn line_of(&mut self, parts: &[&str]) -> Result<(), Failure> {
        parts
            .iter()
            .try_for_each(|part| self.bytes(part.as_bytes()))?;
        self.bytes(b"\n")
    }

    /// Bytes on stdout, as they are.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::stdout)
    }

    /// One line of compact JSON on stdout.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let text = to_json(value)?;
        self.line(text)
    }

    /// A list as JSON; an empty one is `null`, as Go prints lists that were never made.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn json_list(&mut self, list: &[impl Serialize]) -> Result<(), Failure> {
        if list.is_empty() {
            self.line("null")
        } else {
            self.json(list)
        }
    }

    /// A line on stderr, after what stdout already got.
    pub fn error_line(&mut self, line: impl Display) {
        self.flush();
        // Nobody is left to be told when stderr is gone.
        drop(writeln!(self.err, "{line}"));
    }

    /// Where a stream of bytes goes.
    pub fn stream(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// Writes out what is gathered.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::stdout)
    }

    fn flush(&mut self) {
        // The failure shows again when the command finishes.
        drop(self.out.flush());
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

/// What a command says that has nothing to tell: nothing, or the JSON that says so in the peer.
///
/// # Errors
/// When stdout can't be written.
pub fn print_nothing(given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json("")?;
    }
    Ok(0)
}

/// Compact JSON with Go's escapes: `<`, `>`, `&` and the two Unicode line ends are escaped too.
///
/// # Errors
/// When the value can't be JSON, as a map whose keys are no strings.
pub fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::because(&error))?;
    // These stand only inside strings in JSON.
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return Ok(text);
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            _ => escaped.push(letter),
        }
    }
    Ok(escaped)
}

/// Bytes in double quotes with Go's `%q` escapes.
pub struct Quoted<'a>(pub &'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '"' => formatter.write_str("\\\"")?,
                    '\\' => formatter.write_str("\\\\")?,
                    '\x07' => formatter.write_str("\\a")?,
                    '\x08' => formatter.write_str("\\b")?,
                    '\x0c' => formatter.write_str("\\f")?,
                    '\n' => formatter.write_str("\\n")?,
                    '\r' => formatter.write_str("\\r")?,
                    '\t' => formatter.write_str("\\t")?,
                    '\x0b' => formatter.write_str("\\v")?,
                    '\0'..='\x1f' | '\x7f' => write!(formatter, "\\x{:02x}", letter as u32)?,
                    '\u{80}'..='\u{a0}'
                    | '\u{ad}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202f}'
                    | '\u{feff}' => {
                        write!(formatter, "\\u{:04x}", letter as u32)?;
                    }
                    _ => formatter.write_char(letter)?,
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        formatter.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_go_does() {
        let text = to_json(&["a<b>&c\u{2028}\n"]).unwrap();
        assert_eq!(text, r#"["a\u003cb\u003e\u0026c\u2028\n"]"#);
        assert_eq!(to_json(&None::<u8>).unwrap(), "null");
    }

    #[test]
    fn quotes_are_go_quotes() {
        assert_eq!(
            Quoted(b"/q\"u\no\\\xff\x01").to_string(),
            r#""/q\"u\no\\\xff\x01""#
        );
        assert_eq!(Quoted("/é\u{a0}".as_bytes()).to_string(), "\"/é\\u00a0\"");
    }
}
