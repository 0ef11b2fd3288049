//! [`Row`]: the text of one record, and the record once somebody has asked for it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::Error;
use super::json;
use super::scan::{Broken, Scanner};
use super::table::ParseTableError;

/// What the value of a key must look like. Whether it is of the right type is seen when it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A number.
    Number,
    /// A list.
    List,
    /// A map.
    Map,
}

impl Shape {
    fn begins_with(self, byte: Option<u8>) -> bool {
        match byte {
            // Go reads it as "not there" everywhere.
            Some(b'n') => true,
            Some(b'"') => self == Self::Text,
            Some(b'-' | b'0'..=b'9') => self == Self::Number,
            Some(b'[') => self == Self::List,
            Some(b'{') => self == Self::Map,
            _ => false,
        }
    }
}

/// A JSON row with an ID.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The shape of the values of the keys that this type knows; others are carried along as they are.
    fn shape(key: &str) -> Option<Shape>;

    /// The unique ID.
    fn id(&self) -> &str;

    /// The names that find it, none for kinds without names.
    fn names(&self) -> &[String] {
        &[]
    }

    /// The same, to change.
    fn names_mut(&mut self) -> Option<&mut Vec<String>> {
        None
    }
}

/// A text with records in it.
#[derive(Debug)]
pub struct Source {
    /// The file that it was read from; empty for a text of our own.
    pub path: PathBuf,
    /// The text.
    pub text: String,
}

/// A place in a text. Sources of 4 GiB and more are refused before they come here.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    end: u32,
}

impl Place {
    const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl From<Range<usize>> for Place {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start as u32,
            end: range.end as u32,
        }
    }
}

/// Where the text of a record has what look-ups need.
#[derive(Clone, Debug, Default)]
struct Outline {
    /// The whole record.
    part: Place,
    id: Place,
    /// Its list of names, brackets included.
    names: Place,
    has_flags: bool,
    /// Some string of it is written with escapes.
    has_escapes: bool,
    /// The ID or the names can't be told from the text alone.
    must_parse: bool,
}

impl Outline {
    fn scan<R: Record>(scanner: &mut Scanner<'_>) -> Result<Self, Broken> {
        let mut outline = Self::default();
        let mut has_id = false;
        scanner.peek();
        let start = scanner.at();
        scanner.has_escapes = false;
        scanner.map(|scanner, key| {
            if key.is_escaped {
                outline.must_parse = true;
                return scanner.value();
            }
            let key = scanner.get(key.place);
            if let Some(shape) = R::shape(key)
                && !shape.begins_with(scanner.peek())
            {
                return Err(scanner.broken("a value of another type than the key has"));
            }
            match key {
                "id" if has_id => Err(scanner.broken("a second ID")),
                "id" => {
                    let id = scanner.string()?;
                    has_id = true;
                    outline.must_parse |= id.is_escaped;
                    outline.id = id.place.into();
                    Ok(())
                }
                "names" if scanner.peek() == Some(b'[') => {
                    let start = scanner.at();
                    scanner.list(|scanner| {
                        outline.must_parse |= scanner.string()?.is_escaped;
                        Ok(())
                    })?;
                    outline.names = (start..scanner.at()).into();
                    Ok(())
                }
                "flags" => {
                    outline.has_flags = true;
                    scanner.value()
                }
                _ => scanner.value(),
            }
        })?;
        if !has_id && !outline.must_parse {
            return Err(scanner.broken("a record without ID"));
        }
        outline.has_escapes = scanner.has_escapes;
        outline.part = (start..scanner.at()).into();
        Ok(outline)
    }
}

/// One record of a table: its text, and what the text says once somebody has asked.
#[derive(Debug)]
pub struct Row<R> {
    source: Arc<Source>,
    outline: Outline,
    record: OnceLock<Arc<R>>,
    /// Which of the table's files it lives in.
    pub(super) file: usize,
}

impl<R> Clone for Row<R> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            outline: self.outline.clone(),
            record: self.record.clone(),
            file: self.file,
        }
    }
}

impl<R: Record> Row<R> {
    /// The next record of `source`, which `scanner` reads.
    ///
    /// # Errors
    /// When it is no record.
    pub(super) fn scan(
        scanner: &mut Scanner<'_>,
        source: &Arc<Source>,
        file: usize,
    ) -> Result<Self, ParseTableError> {
        let row = Self {
            outline: Outline::scan::<R>(scanner)?,
            source: Arc::clone(source),
            record: OnceLock::new(),
            file,
        };
        if row.outline.must_parse {
            row.parsed()?;
        }
        Ok(row)
    }

    /// A row for `record`, with the keys of `old` that its type does not know.
    ///
    /// # Errors
    /// When `old` says nothing that we understand.
    pub(super) fn new(record: R, old: Option<&Self>, file: usize) -> Result<Self, ParseTableError> {
        let text = write(&record, old.map(Self::text))?;
        let outline = Outline::scan::<R>(&mut Scanner::new(&text))?;
        let source = Source {
            path: PathBuf::new(),
            text,
        };
        Ok(Self {
            source: Arc::new(source),
            outline,
            record: OnceLock::from(Arc::new(record)),
            file,
        })
    }

    /// The JSON text, with the keys that `R` does not know.
    pub fn text(&self) -> &str {
        &self.source.text[self.outline.part.range()]
    }

    /// The unique ID.
    pub fn id(&self) -> &str {
        match self.record.get() {
            Some(record) => record.id(),
            None => &self.source.text[self.outline.id.range()],
        }
    }

    /// The names that find it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (parsed, mut text) = match self.record.get() {
            Some(record) => (record.names(), ""),
            None => (&[][..], &self.source.text[self.outline.names.range()]),
        };
        // They have no escapes: every second quote ends a name.
        let scanned = std::iter::from_fn(move || {
            let start = memchr::memchr(b'"', text.as_bytes())? + 1;
            let len = memchr::memchr(b'"', &text.as_bytes()[start..])?;
            let name = &text[start..start + len];
            text = &text[start + len + 1..];
            Some(name)
        });
        parsed.iter().map(String::as_str).chain(scanned)
    }

    /// The text of this row and of `next`, if they lie beside each other as in a list of both.
    pub(super) fn joined_with(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.source, &next.source)
            && self.outline.part.end + 1 == next.outline.part.start
    }

    /// The text from this row up to `last`, which is in the same source.
    pub(super) fn text_up_to(&self, last: &Self) -> &str {
        &self.source.text[self.outline.part.start as usize..last.outline.part.end as usize]
    }

    /// True when the record has flags: few have.
    pub fn has_flags(&self) -> bool {
        self.outline.has_flags
    }

    /// True when some string of the record is written with escapes.
    pub fn has_escapes(&self) -> bool {
        self.outline.has_escapes
    }

    /// What the row says.
    ///
    /// # Errors
    /// When it says nothing that `R` understands.
    pub fn record(&self) -> Result<&Arc<R>, Error> {
        match self.parsed() {
            Ok(record) => Ok(record),
            Err(source) => Err(Error::Load {
                path: self.source.path.clone(),
                source: Arc::new(source),
            }),
        }
    }

    /// As [`Row::record`], for who knows which file it is.
    ///
    /// # Errors
    /// When it says nothing that `R` understands.
    pub(super) fn parsed(&self) -> Result<&Arc<R>, ParseTableError> {
        if let Some(record) = self.record.get() {
            return Ok(record);
        }
        let record = serde_json::from_str(self.text())?;
        Ok(self.record.get_or_init(|| Arc::new(record)))
    }
}

/// The JSON text of `record`, with the keys of `old` that its type does not know.
fn write<R: Record>(record: &R, old: Option<&str>) -> Result<String, ParseTableError> {
    let mut text = json::to_string(record)?;
    let unknown = match old {
        Some(old) => serde_json::from_str::<BTreeMap<String, &RawValue>>(old)?,
        None => BTreeMap::new(),
    };
    for (key, value) in unknown {
        if R::shape(&key).is_none() {
            text.pop();
            text.push(',');
            text.push_str(&json::to_string(&key)?);
            text.push(':');
            text.push_str(value.get());
            text.push('}');
        }
    }
    Ok(text)
}
