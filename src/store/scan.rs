//! [`Scanner`]: checks JSON text without making anything of it, and tells where its strings are.
//!
//! A table of ten thousand records is read by every command, and nearly all of its records are wanted
//! by none: checking them takes a tenth of the time of parsing them.

use std::ops::Range;

/// How deep lists and maps may lie in each other, as in `serde_json`.
const DEPTH: u8 = 127;

/// How many bytes of a string are looked at together.
const BLOCK: usize = 32;

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Broken {
    what: &'static str,
    at: usize,
}

/// A string of the text, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Where it is.
    pub place: Range<usize>,
    /// True when the text is not the string itself.
    pub is_escaped: bool,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Whether a string with an escape was passed.
    pub has_escapes: bool,
}

/// Marks, by the high bit of its byte, the first byte of `word` that ends a run of plain characters: a
/// quote, a backslash or a control character. Marks above the first mean nothing.
fn first_special(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quotes = zeros(word ^ (ONES * b'"' as u64));
    let backslashes = zeros(word ^ (ONES * b'\\' as u64));
    let controls = word.wrapping_sub(ONES * b' ' as u64) & !word;
    (quotes | backslashes | controls) & HIGH
}

/// How long the IDs are that a store makes.
const ID: usize = 64;

/// True when a byte of `block` ends a run of plain characters. Written for the compiler to make vectors of.
fn has_special<const N: usize>(block: &[u8; N]) -> bool {
    let special =
        |byte: u8| u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < b' ');
    block.iter().fold(0, |any, byte| any | special(*byte)) != 0
}

/// How many bytes at the start of `rest` are plain characters for sure: all of them, up to the last word.
fn plain(rest: &[u8]) -> usize {
    // Most bytes are in IDs.
    if rest.get(ID) == Some(&b'"')
        && let Some(id) = rest.first_chunk::<ID>()
        && !has_special(id)
    {
        return ID;
    }
    let mut at = 0;
    // Keys end within the first word; most other bytes are in digests and times, which are long.
    let mut is_long = false;
    while let Some(word) = rest.get(at..).and_then(<[u8]>::first_chunk) {
        let special = first_special(u64::from_le_bytes(*word));
        at += (special.trailing_zeros() / 8) as usize;
        if special != 0 {
            break;
        }
        while !is_long
            && let Some(block) = rest.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>)
            && !has_special(block)
        {
            at += BLOCK;
        }
        is_long = true;
    }
    at
}

impl<'a> Scanner<'a> {
    /// At the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            has_escapes: false,
        }
    }

    /// Where it is, in bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What `place` of the text says.
    pub fn get(&self, place: Range<usize>) -> &'a str {
        &self.text[place]
    }

    /// An error at this place.
    pub fn broken(&self, what: &'static str) -> Broken {
        Broken { what, at: self.at }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes white space, and says what is next.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                byte => return byte,
            }
        }
    }

    fn take(&mut self, wanted: u8, what: &'static str) -> Result<(), Broken> {
        if self.peek() != Some(wanted) {
            return Err(self.broken(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes a list, with each of its values passed by `value`.
    ///
    /// # Errors
    /// When it is none.
    pub fn list(
        &mut self,
        mut value: impl FnMut(&mut Self) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.take(b'[', "no list")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.peek();
            value(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.broken("neither a comma nor the end of the list")),
            }
        }
    }

    /// Passes a map, with the value of each key passed by `value`.
    ///
    /// # Errors
    /// When it is none.
    pub fn map(
        &mut self,
        mut value: impl FnMut(&mut Self, Quoted) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.take(b'{', "no map")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.peek();
            let key = self.string()?;
            self.take(b':', "no colon after a key")?;
            self.peek();
            value(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.broken("neither a comma nor the end of the map")),
            }
        }
    }

    /// Passes a string.
    ///
    /// # Errors
    /// When it is none.
    pub fn string(&mut self) -> Result<Quoted, Broken> {
        self.take(b'"', "no string")?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut is_escaped = false;
        loop {
            self.at += plain(&bytes[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    let place = start..self.at;
                    self.at += 1;
                    self.has_escapes |= is_escaped;
                    return Ok(Quoted { place, is_escaped });
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.broken("a control character in a string")),
                // Less than a word is left.
                Some(_) => self.at += 1,
                None => return Err(self.broken("the end within a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.broken("an escape without four digits"));
                }
                self.at += 5;
            }
            _ => return Err(self.broken("an unknown escape")),
        }
        Ok(())
    }

    /// Passes any value.
    ///
    /// # Errors
    /// When it is none.
    pub fn value(&mut self) -> Result<(), Broken> {
        self.value_within(DEPTH)
    }

    fn value_within(&mut self, depth: u8) -> Result<(), Broken> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') if depth == 0 => Err(self.broken("too deep a structure")),
            Some(b'{') => self.map(|scanner, _| scanner.value_within(depth - 1)),
            Some(b'[') => self.list(|scanner| scanner.value_within(depth - 1)),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.broken("no value")),
            None => Err(self.broken("the end where a value should be")),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Broken> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.broken("no value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Broken> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.broken("no digit"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<(), Broken> {
        let mut scanner = Scanner::new(text);
        scanner.value()?;
        match scanner.peek() {
            None => Ok(()),
            Some(_) => Err(scanner.broken("more")),
        }
    }

    /// Texts of which some are JSON and most are nearly so.
    fn texts() -> Vec<String> {
        let whole = [
            r#"[{"id":"0123456789abcdef","n":[1,-2.50,3e+7,0],"é":"\u00e9\"\\\/"}, null ]"#,
            r#"{"a":{"b":[[],{},[{}]],"c":true},"d":false,"e":"   x	"}"#,
            "\t[ 1 , \"two\" ]\r\n",
        ];
        let mut texts: Vec<String> = ["", "-", "01", "1.", ".5", "1e", "nul", "\"\\u12\"", "[1,]"]
            .map(str::to_owned)
            .to_vec();
        for text in whole {
            texts.push(text.to_owned());
            for at in text.char_indices().map(|(at, _)| at) {
                texts.push(text[..at].to_owned());
                for other in ["", "\"", "\\", ",", "]", "}", "0", "e", "\n", "é"] {
                    let next = at + text[at..].chars().next().unwrap().len_utf8();
                    texts.push(format!("{}{other}{}", &text[..at], &text[next..]));
                }
            }
        }
        texts
    }

    #[test]
    fn what_is_accepted_is_what_serde_accepts() {
        for text in texts() {
            let wanted = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            assert_eq!(scan(&text).is_ok(), wanted.is_ok(), "{text:?}: {wanted:?}");
        }
    }

    #[test]
    fn strings_are_found_with_and_without_escapes() {
        let text = r#"["", "seven--", "eight---", "more than eight", "\n", "é"]"#;
        let mut scanner = Scanner::new(text);
        let mut found = Vec::new();
        scanner
            .list(|scanner| {
                let quoted = scanner.string()?;
                found.push((scanner.get(quoted.place), quoted.is_escaped));
                Ok(())
            })
            .unwrap();
        assert_eq!(
            found,
            [
                ("", false),
                ("seven--", false),
                ("eight---", false),
                ("more than eight", false),
                ("\\n", true),
                ("é", false)
            ]
        );
        assert!(scanner.has_escapes);
    }

    #[test]
    fn the_depth_is_bounded() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(scan(&deep(127)).is_ok());
        assert!(scan(&deep(100_000)).is_err());
    }
}
