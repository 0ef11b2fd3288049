//! [`Table`]: all records of one kind, indexed by ID and name, with the bytes that they were read as.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};
use std::sync::Arc;

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::value::RawValue;

use super::{id, json};

/// A JSON row with an ID.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The keys that this type knows; others are carried along as they are.
    const KEYS: &'static [&'static str];

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

/// One record of a table.
#[derive(Debug)]
pub struct Row<R> {
    /// What the row says.
    pub record: Arc<R>,
    /// The JSON text of the row, with the keys that `R` does not know.
    text: Text,
    /// Which of the table's files it lives in.
    pub(super) file: usize,
}

impl<R> Clone for Row<R> {
    fn clone(&self) -> Self {
        Self {
            record: Arc::clone(&self.record),
            text: self.text.clone(),
            file: self.file,
        }
    }
}

/// The JSON text of a row: a part of the file that it was read from, or a text of its own.
#[derive(Clone, Debug)]
struct Text {
    whole: Arc<String>,
    part: Range<usize>,
}

impl Text {
    fn get(&self) -> &str {
        &self.whole[self.part.clone()]
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self {
            part: 0..text.len(),
            whole: Arc::new(text),
        }
    }
}

/// The records of one kind in one store. Rows keep the order in which they came.
#[derive(Debug)]
pub struct Table<R> {
    rows: BTreeMap<u64, Row<R>>,
    ids: BTreeMap<Arc<str>, u64>,
    names: HashMap<Arc<str>, u64>,
    next: u64,
    /// What undoes the changes since the last [`Table::settle`], latest last.
    journal: Vec<(u64, Option<Row<R>>)>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            ids: self.ids.clone(),
            names: self.names.clone(),
            next: self.next,
            journal: Vec::new(),
        }
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            ids: BTreeMap::new(),
            names: HashMap::new(),
            next: 0,
            journal: Vec::new(),
        }
    }
}

/// What is wrong with the text of a table.
#[derive(Debug, thiserror::Error)]
pub enum ParseTableError {
    /// No JSON array of records.
    #[error("it is not valid JSON for its kind")]
    Json(#[from] serde_json::Error),
    /// A record whose ID can't be a directory name; working with it could remove the whole store.
    #[error("it has a record with the unusable ID {0:?}")]
    Id(String),
}

/// The outcome of taking in the text of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// A later record took a name from an earlier one: a writer should save the result.
    pub has_conflicts: bool,
}

impl<R: Record> Table<R> {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Row<R>> {
        self.rows.values()
    }

    /// Takes in the text of file number `file`: a JSON array, or nothing.
    ///
    /// As in Go, an ID that is there already is ignored, and of two records with one name the later
    /// keeps it.
    ///
    /// # Errors
    /// When the text is broken or has an unusable ID; the table is then to be thrown away.
    pub fn absorb(
        &mut self,
        file: usize,
        text: impl Into<Vec<u8>>,
    ) -> Result<Absorbed, ParseTableError> {
        let mut absorbed = Absorbed::default();
        let text = String::from_utf8(text.into())
            .map_err(|_| serde_json::Error::custom("it is not UTF-8"))?;
        if text.is_empty() {
            return Ok(absorbed);
        }
        let whole = Arc::new(text);
        let mut elements = Elements::begin(&whole)?;
        while let Some((record, part)) = elements.next::<R>()? {
            if !id::is_safe(record.id()) {
                return Err(ParseTableError::Id(record.id().to_owned()));
            }
            if self.ids.contains_key(record.id()) {
                continue;
            }
            for name in record.names() {
                absorbed.has_conflicts |= self.release_name(name);
            }
            let text = Text {
                whole: Arc::clone(&whole),
                part,
            };
            self.push(Row {
                record: Arc::new(record),
                text,
                file,
            });
        }
        self.settle();
        Ok(absorbed)
    }

    fn push(&mut self, row: Row<R>) {
        let at = self.next;
        self.next += 1;
        self.place(at, row);
    }

    /// Adds a row as it is.
    pub(super) fn put_row(&mut self, row: Row<R>) {
        self.push(row);
    }

    fn place(&mut self, at: u64, row: Row<R>) {
        self.journal.push((at, None));
        self.ids.insert(row.record.id().into(), at);
        for name in row.record.names() {
            self.names.insert(name.as_str().into(), at);
        }
        self.rows.insert(at, row);
    }

    fn take(&mut self, at: u64) -> Option<Row<R>> {
        let row = self.rows.remove(&at)?;
        self.ids.remove(row.record.id());
        for name in row.record.names() {
            if self.names.get(name.as_str()) == Some(&at) {
                self.names.remove(name.as_str());
            }
        }
        self.journal.push((at, Some(row.clone())));
        Some(row)
    }

    /// Where the journal stands: [`Table::roll_back`] returns to here.
    pub fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Undoes every change since `mark`.
    pub fn roll_back(&mut self, mark: usize) {
        let undone = self.journal.split_off(mark.min(self.journal.len()));
        for (at, row) in undone.into_iter().rev() {
            self.take(at);
            if let Some(row) = row {
                self.place(at, row);
            }
        }
        self.journal.truncate(mark);
    }

    /// Forgets how to undo what was changed so far.
    pub fn settle(&mut self) {
        self.journal.clear();
    }

    /// Takes `name` from the record that has it; true when one had.
    fn release_name(&mut self, name: &str) -> bool {
        let Some(&at) = self.names.get(name) else {
            return false;
        };
        if let Some(row) = self.take(at) {
            let mut record = (*row.record).clone();
            if let Some(names) = record.names_mut() {
                names.retain(|own| own != name);
            }
            let text = rewrite(Some(row.text.get()), &record);
            self.place(
                at,
                Row {
                    record: Arc::new(record),
                    text,
                    file: row.file,
                },
            );
        }
        true
    }

    /// The row with exactly this ID.
    pub fn find_id(&self, id: &str) -> Option<&Row<R>> {
        self.rows.get(self.ids.get(id)?)
    }

    /// The row with exactly this name.
    pub fn find_name(&self, name: &str) -> Option<&Row<R>> {
        self.rows.get(self.names.get(name)?)
    }

    /// The row with this ID, else with this name, else the only one whose ID starts so.
    pub fn find(&self, key: &str) -> Option<&Row<R>> {
        if let Some(row) = self.find_id(key).or_else(|| self.find_name(key)) {
            return Some(row);
        }
        if key.is_empty() {
            return None;
        }
        let mut matches = self
            .ids
            .range::<str, _>((Bound::Included(key), Bound::Unbounded))
            .take_while(|(id, _)| id.starts_with(key));
        match (matches.next(), matches.next()) {
            (Some((_, at)), None) => self.rows.get(at),
            _ => None,
        }
    }

    /// Adds or replaces the record with its ID, in file number `file`. A name that it has is taken
    /// from other records.
    ///
    /// A replaced record keeps its place, its file and the keys that we don't know.
    pub fn put(&mut self, record: R, file: usize) {
        for name in record.names() {
            let owner = self.find_name(name).map(|row| row.record.id().to_owned());
            if owner.is_some_and(|owner| owner != record.id()) {
                self.release_name(name);
            }
        }
        match self
            .ids
            .get(record.id())
            .copied()
            .and_then(|at| Some((at, self.take(at)?)))
        {
            Some((at, old)) => {
                let text = rewrite(Some(old.text.get()), &record);
                self.place(
                    at,
                    Row {
                        record: Arc::new(record),
                        text,
                        file: old.file,
                    },
                );
            }
            None => {
                let text = rewrite(None, &record);
                self.push(Row {
                    record: Arc::new(record),
                    text,
                    file,
                });
            }
        }
    }

    /// Takes the record out.
    pub fn remove(&mut self, id: &str) -> Option<Row<R>> {
        let at = *self.ids.get(id)?;
        self.take(at)
    }

    /// The JSON array of the rows of one file: unchanged rows are the bytes that they were.
    pub fn text(&self, file: usize) -> Vec<u8> {
        let rows = || self.rows.values().filter(|row| row.file == file);
        let size: usize = rows().map(|row| row.text.part.len() + 1).sum();
        let mut text = Vec::with_capacity(size + 2);
        text.push(b'[');
        for row in rows() {
            if text.len() > 1 {
                text.push(b',');
            }
            text.extend_from_slice(row.text.get().as_bytes());
        }
        text.push(b']');
        text
    }

    /// True when file number `file` has rows.
    pub fn has_rows_in(&self, file: usize) -> bool {
        self.rows.values().any(|row| row.file == file)
    }
}

/// The elements of a JSON array, each with the place of its text: read once, where a list of raw values
/// would read everything twice.
struct Elements<'a> {
    text: &'a str,
    at: usize,
    is_first: bool,
}

impl<'a> Elements<'a> {
    fn begin(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut elements = Self {
            text,
            at: 0,
            is_first: true,
        };
        match elements.take() {
            Some(b'[') => Ok(elements),
            _ => Err(serde_json::Error::custom("it is no array")),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.at += rest.iter().take_while(|byte| blank(byte)).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// The next element; none at the end of the array, which is to be the end of the text.
    fn next<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Range<usize>)>, serde_json::Error> {
        if self.peek() == Some(b']') {
            self.at += 1;
            return match self.peek() {
                None => Ok(None),
                Some(_) => Err(serde_json::Error::custom("something follows the array")),
            };
        }
        if !self.is_first && self.take() != Some(b',') {
            return Err(serde_json::Error::custom("it ends within the array"));
        }
        self.is_first = false;
        self.peek();
        let start = self.at;
        let mut values = serde_json::Deserializer::from_str(&self.text[start..]).into_iter();
        let value = values
            .next()
            .unwrap_or_else(|| Err(serde_json::Error::custom("it ends within the array")))?;
        self.at += values.byte_offset();
        Ok(Some((value, start..self.at)))
    }
}

/// The JSON text of `record`, with the keys of `old` that its type does not know.
fn rewrite<R: Record>(old: Option<&str>, record: &R) -> Text {
    let mut text = json::to_string(record)
        .expect("records are structs with string keys, which always can be JSON");
    let unknown = old
        .and_then(|old| serde_json::from_str::<BTreeMap<String, &RawValue>>(old).ok())
        .into_iter()
        .flatten()
        .filter(|(key, _)| !R::KEYS.contains(&key.as_str()));
    for (key, value) in unknown {
        text.pop();
        text.push(',');
        text.push_str(&json::to_string(&key).expect("a string always can be JSON"));
        text.push(':');
        text.push_str(value.get());
        text.push('}');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layer::record::LayerRecord;

    fn table(text: &str) -> Table<LayerRecord> {
        let mut table = Table::default();
        table.absorb(0, text.as_bytes()).unwrap();
        table
    }

    fn text(table: &Table<LayerRecord>) -> String {
        String::from_utf8(table.text(0)).unwrap()
    }

    #[test]
    fn unchanged_rows_are_the_bytes_that_they_were() {
        let source =
            r#"[{"id":"a" , "future":[1,2.50]},{"id":"b","created":"0001-01-01T00:00:00Z"}]"#;
        let mut table = table(source);
        assert_eq!(text(&table), source);
        table.remove("b");
        assert_eq!(text(&table), r#"[{"id":"a" , "future":[1,2.50]}]"#);
    }

    #[test]
    fn a_changed_row_keeps_the_keys_that_we_do_not_know() {
        let mut table = table(
            r#"[{"id":"a","future":{"n":12345678901234567890},"flags":{"x":12345678901234567890}}]"#,
        );
        let mut record = (*table.find_id("a").unwrap().record).clone();
        record.names.push("<n>".into());
        table.put(record, 0);
        assert_eq!(
            text(&table),
            r#"[{"id":"a","names":["\u003cn\u003e"],"created":"0001-01-01T00:00:00Z","#.to_owned()
                + r#""flags":{"x":12345678901234567890},"future":{"n":12345678901234567890}}]"#
        );
    }

    #[test]
    fn keys_are_ids_then_names_then_unique_prefixes() {
        let table = table(r#"[{"id":"abc"},{"id":"abd","names":["ab"]},{"id":"x"}]"#);
        let find = |key| table.find(key).map(|row| row.record.id.clone());
        assert_eq!(find("abc").as_deref(), Some("abc"));
        assert_eq!(find("ab").as_deref(), Some("abd"));
        assert_eq!(find("a"), None);
        assert_eq!(find(""), None);
        assert_eq!(find("x").as_deref(), Some("x"));
    }

    #[test]
    fn rolling_back_restores_records_names_and_order() {
        let source = r#"[{"id":"a","names":["n"]},{"id":"b"},{"id":"c"}]"#;
        let mut table = table(source);
        let mark = table.mark();
        table.put(
            LayerRecord {
                id: "d".into(),
                names: vec!["n".into()],
                ..Default::default()
            },
            0,
        );
        table.remove("b");
        table.put(
            LayerRecord {
                id: "b".into(),
                ..Default::default()
            },
            0,
        );
        assert_eq!(table.find("n").unwrap().record.id, "d");
        table.roll_back(mark);
        assert_eq!(text(&table), source);
        assert_eq!(table.find("n").unwrap().record.id, "a");
    }

    #[test]
    fn of_two_records_with_one_name_the_later_keeps_it() {
        let mut table = Table::<LayerRecord>::default();
        let source = r#"[{"id":"a","names":["n","m"]},{"id":"b","names":["n"]}]"#;
        assert!(table.absorb(0, source.as_bytes()).unwrap().has_conflicts);
        assert_eq!(table.find_id("a").unwrap().record.names, ["m"]);
        assert_eq!(table.find("n").unwrap().record.id, "b");
    }

    #[test]
    fn broken_texts_and_unusable_ids_are_refused() {
        for bad in [
            "{}",
            "[{\"id\":\"a\"",
            "[{\"id\":\"\"}]",
            "[{\"id\":\"a/b\"}]",
            "null",
            "[1]",
        ] {
            assert!(
                Table::<LayerRecord>::default()
                    .absorb(0, bad.as_bytes())
                    .is_err(),
                "{bad}"
            );
        }
        assert!(Table::<LayerRecord>::default().absorb(0, b"").is_ok());
    }
}
