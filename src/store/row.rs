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
use super::naming;
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

    /// The layer that it stands on, as its key `layer` has it; none for kinds without.
    fn layer(&self) -> &str {
        ""
    }

    /// Keys of its big data, none for kinds without.
    fn data_keys(&self) -> &[String] {
        &[]
    }

    /// Its names, to change.
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
    /// What its key `layer` has.
    layer: Place,
    /// Its list of keys of big data, brackets included.
    data_keys: Place,
    has_flags: bool,
    /// Some string of it is written with escapes.
    has_escapes: bool,
    /// What look-ups need can't be told from the text alone.
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
                "names" | "big-data-names" if scanner.peek() == Some(b'[') => {
                    let is_names = key == "names";
                    let start = scanner.at();
                    scanner.list(|scanner| {
                        outline.must_parse |= scanner.string()?.is_escaped;
                        Ok(())
                    })?;
                    let place = (start..scanner.at()).into();
                    if is_names {
                        outline.names = place;
                    } else {
                        outline.data_keys = place;
                    }
                    Ok(())
                }
                "layer" if scanner.peek() == Some(b'"') => {
                    let layer = scanner.string()?;
                    outline.must_parse |= layer.is_escaped;
                    outline.layer = layer.place.into();
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

    fn get(&self, place: Place) -> &str {
        &self.source.text[place.range()]
    }

    /// The unique ID.
    pub fn id(&self) -> &str {
        match self.record.get() {
            Some(record) => record.id(),
            None => self.get(self.outline.id),
        }
    }

    /// The layer that it stands on; empty for none, and for kinds without.
    pub fn layer(&self) -> &str {
        match self.record.get() {
            Some(record) => record.layer(),
            None => self.get(self.outline.layer),
        }
    }

    /// The names that find it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        match self.record.get() {
            Some(record) => Strings(record.names(), ""),
            None => Strings(&[], self.get(self.outline.names)),
        }
    }

    /// Whether it has one of its names twice: the newest peer writes those of layers as they were given.
    pub(super) fn repeats_a_name(&self) -> bool {
        // Most have one, and ten thousand of them are asked.
        if self.names().nth(1).is_none() {
            return false;
        }
        let mut names: Vec<&str> = self.names().collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// The same row with each of its names once.
    ///
    /// # Errors
    /// When it says nothing that we understand.
    pub(super) fn without_repeats(&self) -> Result<Self, ParseTableError> {
        let mut record = (**self.parsed()?).clone();
        if let Some(names) = record.names_mut() {
            *names = naming::without_repeats(std::mem::take(names));
        }
        Self::new(record, Some(self), self.file)
    }

    /// Keys of its big data.
    pub fn data_keys(&self) -> impl Iterator<Item = &str> {
        match self.record.get() {
            Some(record) => Strings(record.data_keys(), ""),
            None => Strings(&[], self.get(self.outline.data_keys)),
        }
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

/// The strings of a list: of a parsed one, or of the text of one that has no escapes in it.
struct Strings<'a>(&'a [String], &'a str);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if let Some((first, rest)) = self.0.split_first() {
            self.0 = rest;
            return Some(first);
        }
        // Every second quote ends a string.
        let start = memchr::memchr(b'"', self.1.as_bytes())? + 1;
        let end = start + memchr::memchr(b'"', &self.1.as_bytes()[start..])?;
        let string = &self.1[start..end];
        self.1 = &self.1[end + 1..];
        Some(string)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::container::record::ContainerRecord;

    fn row(text: &str) -> Row<ContainerRecord> {
        let source = Source {
            path: PathBuf::new(),
            text: text.to_owned(),
        };
        Row::scan(&mut Scanner::new(text), &Arc::new(source), 0).unwrap()
    }

    fn told(row: &Row<ContainerRecord>) -> (&str, &str, Vec<&str>, Vec<&str>) {
        let names = row.names().collect();
        (row.id(), row.layer(), names, row.data_keys().collect())
    }

    #[test]
    fn a_row_tells_the_same_before_and_after_it_is_parsed() {
        let mut texts = vec![
            r#"{"id":"a"}"#.to_owned(),
            r#"{"id":"a","layer":"","names":[],"big-data-names":[]}"#.to_owned(),
        ];
        for (layer, name, key) in [
            ("l", "n", "k"),
            ("\\u006c", "n", "k"),
            ("l", "n", "\\u006b"),
        ] {
            texts.push(format!(
                r#"{{ "flags":{{"id":"no","names":["no"]}}, "big-data-names":["{key}", ""],
                "layer":"{layer}", "id" : "a","names" : [ "{name}","m" ] }}"#
            ));
        }
        for text in texts {
            let row = row(&text);
            let parsed = Arc::clone(row.record().unwrap());
            let fresh = Row::<ContainerRecord> {
                record: OnceLock::new(),
                ..row.clone()
            };
            if !row.outline.must_parse {
                assert_eq!(told(&fresh), told(&row), "{text}");
            }
            assert_eq!(row.names().collect::<Vec<_>>(), parsed.names);
            assert_eq!(row.data_keys().collect::<Vec<_>>(), parsed.big_data_names);
            assert_eq!(row.layer(), parsed.layer);
        }
    }

    #[test]
    fn a_change_keeps_what_the_type_does_not_know() {
        let old = row(r#"{"id":"a","future":1.50,"layer":"l"}"#);
        let mut record = (**old.record().unwrap()).clone();
        record.layer = "m".into();
        let new = Row::new(record, Some(&old), 0).unwrap();
        assert!(new.text().ends_with(r#","future":1.50}"#), "{}", new.text());
        assert_eq!(new.layer(), "m");
    }
}
