//! [`Table`]: all records of one kind, found by ID and name.
//!
//! Reading a file checks its text and finds the records in it; a record is parsed when somebody asks for
//! it ([`Row::record`]), and written again as the bytes that it was unless it changed.

use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::id;
use super::index::{Hash, Index};
use super::row::{Record, Row, Source};
use super::scan::{Broken, Scanner};
use crate::sys::memory;

/// The records of one kind in one store. Rows keep the order in which they came.
#[derive(Debug)]
pub struct Table<R> {
    /// By number; a removed row leaves its place empty, until [`Table::settle`] finds too many.
    rows: Vec<Option<Row<R>>>,
    len: usize,
    ids: Index,
    names: Index,
    /// What undoes the changes since the last [`Table::settle`], latest last.
    journal: Vec<(u32, Option<Row<R>>)>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            len: self.len,
            ids: self.ids.clone(),
            names: self.names.clone(),
            journal: Vec::new(),
        }
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            len: 0,
            ids: Index::default(),
            names: Index::default(),
            journal: Vec::new(),
        }
    }
}

/// What is wrong with the text of a table.
#[derive(Debug, thiserror::Error)]
pub enum ParseTableError {
    /// Not UTF-8.
    #[error("it is not valid JSON for its kind")]
    Text(#[from] std::string::FromUtf8Error),
    /// No JSON array of records.
    #[error("it is not valid JSON for its kind")]
    Structure(#[from] Broken),
    /// A record of another type.
    #[error("it is not valid JSON for its kind")]
    Record(#[from] serde_json::Error),
    /// A record whose ID can't be a directory name; working with it could remove the whole store.
    #[error("it has a record with the unusable ID {0:?}")]
    Id(String),
    /// Longer than any table can be.
    #[error("it is longer than 4 GiB")]
    TooLong,
}

/// A record that begins before this byte of a file is the first one.
const FIRST: usize = 2;

/// No record of an honest file is shorter: bounds what is reserved.
const SHORTEST: usize = 128;

/// The outcome of taking in the text of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// A later record took a name from an earlier one: a writer should save the result.
    pub has_conflicts: bool,
}

impl<R: Record> Table<R> {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All rows, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Row<R>> {
        self.rows.iter().flatten()
    }

    /// The first record that has the string `value` somewhere and is the wanted one. Only records that may
    /// have it are parsed.
    ///
    /// # Errors
    /// When such a record says nothing that we understand.
    pub fn search(
        &self,
        value: &str,
        is_wanted: impl Fn(&R) -> bool,
    ) -> Result<Option<Arc<R>>, Error> {
        for row in self.mentioning(value) {
            let record = row.record()?;
            if is_wanted(record) {
                return Ok(Some(Arc::clone(record)));
            }
        }
        Ok(None)
    }

    /// The rows that may have the string `value`: no other can.
    fn mentioning(&self, value: &str) -> impl Iterator<Item = &Row<R>> {
        let quoted = format!("\"{value}\"");
        let finder = memchr::memmem::Finder::new(&quoted).into_owned();
        // Such a string looks the same in JSON, unless the writer chose to escape it.
        let is_plain = value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte));
        self.iter().filter(move |row| {
            !is_plain || row.has_escapes() || finder.find(row.text().as_bytes()).is_some()
        })
    }

    /// Takes in the text of file number `file` at `path`: a JSON array, or nothing.
    ///
    /// As in Go, an ID that is there already is ignored, and of two records with one name the later
    /// keeps it.
    ///
    /// # Errors
    /// When the text is broken or has an unusable ID; the table is then to be thrown away.
    pub fn absorb(&mut self, file: usize, path: &Path, text: Vec<u8>) -> Result<Absorbed, Error> {
        if text.is_empty() {
            return Ok(Absorbed::default());
        }
        let load = |source: ParseTableError| Error::Load {
            path: path.to_owned(),
            source: Arc::new(source),
        };
        if u32::try_from(text.len()).is_err() {
            return Err(load(ParseTableError::TooLong));
        }
        let text = String::from_utf8(text).map_err(|error| load(error.into()))?;
        let path = path.to_owned();
        let source = Arc::new(Source { path, text });
        let mut scanner = Scanner::new(&source.text);
        let mut absorbed = Absorbed::default();
        let mut refused = None;
        let scanned = scanner.list(|scanner| {
            let start = scanner.at();
            let scanned = Row::scan(scanner, &source, file);
            if start < FIRST {
                // Records of one kind are much of a size.
                self.make_room(source.text.len() / (scanner.at() - start).max(SHORTEST));
            }
            let admitted = match scanned {
                Ok(row) => self.admit(row, &mut absorbed),
                Err(error) => Err(error),
            };
            admitted.map_err(|error| {
                refused = Some(error);
                scanner.broken("no record")
            })
        });
        if let Some(error) = refused {
            return Err(load(error));
        }
        scanned.map_err(|error| load(error.into()))?;
        if scanner.peek().is_some() {
            return Err(load(scanner.broken("something after the list").into()));
        }
        self.settle();
        Ok(absorbed)
    }

    /// Makes room for about `count` rows more.
    fn make_room(&mut self, count: usize) {
        self.rows.reserve(count);
        memory::populate(&mut self.rows);
        self.ids.reserve(count);
    }

    /// Takes in a row of a file.
    fn admit(&mut self, row: Row<R>, absorbed: &mut Absorbed) -> Result<(), ParseTableError> {
        if !id::is_safe(row.id()) {
            return Err(ParseTableError::Id(row.id().to_owned()));
        }
        let at = self.rows.len() as u32;
        let hash = self.ids.hash(row.id());
        if self.number_of_id(row.id(), hash).is_some() {
            return Ok(());
        }
        let row = match row.repeats_a_name() {
            true => {
                absorbed.has_conflicts = true;
                row.without_repeats()?
            }
            false => row,
        };
        for name in row.names() {
            let hash = self.names.hash(name);
            if let Some(other) = self.number_of_name(name, hash) {
                self.release_name(other, name)?;
                absorbed.has_conflicts = true;
            }
            self.names.insert(hash, at);
        }
        self.ids.insert(hash, at);
        self.rows.push(Some(row));
        self.len += 1;
        Ok(())
    }

    fn push(&mut self, row: Row<R>) {
        self.journal.push((self.rows.len() as u32, None));
        self.append(row);
    }

    fn append(&mut self, row: Row<R>) {
        self.rows.push(None);
        self.seat(self.rows.len() as u32 - 1, row);
    }

    /// Adds a row as it is.
    pub(super) fn put_row(&mut self, row: Row<R>) {
        self.push(row);
    }

    /// Puts a row where none is.
    fn place(&mut self, at: u32, row: Row<R>) {
        self.journal.push((at, None));
        self.seat(at, row);
    }

    fn seat(&mut self, at: u32, row: Row<R>) {
        self.ids.insert(self.ids.hash(row.id()), at);
        for name in row.names() {
            self.names.insert(self.names.hash(name), at);
        }
        self.len += 1;
        self.rows[at as usize] = Some(row);
    }

    fn take(&mut self, at: u32) -> Option<Row<R>> {
        let row = self.rows[at as usize].take()?;
        self.len -= 1;
        self.ids.remove(self.ids.hash(row.id()), at);
        for name in row.names() {
            self.names.remove(self.names.hash(name), at);
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
        if self.rows.len() > 2 * self.len + 64 {
            let rows = std::mem::take(self).rows;
            for row in rows.into_iter().flatten() {
                self.append(row);
            }
        }
    }

    fn row(&self, at: u32) -> Option<&Row<R>> {
        self.rows.get(at as usize)?.as_ref()
    }

    fn number_of_id(&self, id: &str, hash: Hash) -> Option<u32> {
        let has_it = |at| self.row(at).is_some_and(|row| row.id() == id);
        self.ids.find(hash, has_it)
    }

    fn number_of_name(&self, name: &str, hash: Hash) -> Option<u32> {
        let has = |row: &Row<R>| row.names().any(|own| own == name);
        self.names.find(hash, |at| self.row(at).is_some_and(has))
    }

    /// Takes `name` from row number `at`.
    fn release_name(&mut self, at: u32, name: &str) -> Result<(), ParseTableError> {
        if let Some(row) = self.row(at) {
            let mut record = (**row.parsed()?).clone();
            if let Some(names) = record.names_mut() {
                names.retain(|own| own != name);
            }
            let row = Row::new(record, Some(row), row.file)?;
            self.take(at);
            self.place(at, row);
        }
        Ok(())
    }

    /// The row with exactly this ID.
    pub fn find_id(&self, id: &str) -> Option<&Row<R>> {
        self.row(self.number_of_id(id, self.ids.hash(id))?)
    }

    /// The row with exactly this name.
    pub fn find_name(&self, name: &str) -> Option<&Row<R>> {
        self.row(self.number_of_name(name, self.names.hash(name))?)
    }

    /// The row with this ID, else with this name, else the only one whose ID starts so.
    pub fn find(&self, key: &str) -> Option<&Row<R>> {
        if let Some(row) = self.find_id(key).or_else(|| self.find_name(key)) {
            return Some(row);
        }
        if key.is_empty() {
            return None;
        }
        let mut matches = self.iter().filter(|row| row.id().starts_with(key));
        match (matches.next(), matches.next()) {
            (Some(row), None) => Some(row),
            _ => None,
        }
    }

    /// Adds or replaces the record with its ID, in file number `file`. A name that it has is taken
    /// from other records.
    ///
    /// A replaced record keeps its place, its file and the keys that we don't know.
    ///
    /// # Errors
    /// When a record that is changed says nothing that we understand. A part of the change may be made.
    pub fn put(&mut self, record: R, file: usize) -> Result<(), ParseTableError> {
        for name in record.names() {
            if let Some(at) = self.number_of_name(name, self.names.hash(name))
                && self.row(at).is_some_and(|owner| owner.id() != record.id())
            {
                self.release_name(at, name)?;
            }
        }
        let old = self.number_of_id(record.id(), self.ids.hash(record.id()));
        if let Some((at, old)) = old.and_then(|at| Some((at, self.row(at)?))) {
            let row = Row::new(record, Some(old), old.file)?;
            self.take(at);
            self.place(at, row);
        } else {
            self.push(Row::new(record, None, file)?);
        }
        Ok(())
    }

    /// Takes the record out.
    pub fn remove(&mut self, id: &str) -> Option<Row<R>> {
        self.take(self.number_of_id(id, self.ids.hash(id))?)
    }

    /// The JSON array of the rows of one file, in pieces: unchanged rows are the bytes that they were,
    /// and as few pieces as they are runs of such.
    pub fn pieces(&self, file: usize) -> Vec<&[u8]> {
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rows = self.iter().filter(|row| row.file == file).peekable();
        while let Some(first) = rows.next() {
            pieces.push(if pieces.is_empty() { b"[" } else { b"," });
            let mut last = first;
            while let Some(next) = rows.next_if(|next| last.joined_with(next)) {
                last = next;
            }
            pieces.push(first.text_up_to(last).as_bytes());
        }
        pieces.push(if pieces.is_empty() { b"[]" } else { b"]" });
        pieces
    }

    /// True when file number `file` has rows.
    pub fn has_rows_in(&self, file: usize) -> bool {
        self.iter().any(|row| row.file == file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layer::record::LayerRecord;

    fn absorb(table: &mut Table<LayerRecord>, text: &str) -> Result<Absorbed, Error> {
        table.absorb(0, Path::new("layers.json"), text.into())
    }

    fn table(text: &str) -> Table<LayerRecord> {
        let mut table = Table::default();
        absorb(&mut table, text).unwrap();
        table
    }

    fn text(table: &Table<LayerRecord>) -> String {
        String::from_utf8(table.pieces(0).concat()).unwrap()
    }

    /// The peer writes such a record for `create-layer -n x -n x`; reading it was a panic once.
    #[test]
    fn a_name_twice_in_one_record_is_one_name() {
        let mut table = Table::default();
        let source = r#"[{"id":"a","names":["x"]},{"id":"b","names":["x","y","x"],"future":1}]"#;
        assert!(absorb(&mut table, source).unwrap().has_conflicts);
        let found = table.find("x").unwrap();
        assert_eq!(found.names().collect::<Vec<_>>(), ["x", "y"]);
        assert!(text(&table).contains(r#""future":1"#));
        let row = table.remove("b").unwrap();
        assert_eq!(row.id(), "b");
        assert!(table.find("x").is_none() && table.find("y").is_none());
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
        let mut record = (**table.find_id("a").unwrap().record().unwrap()).clone();
        record.names.push("<n>".into());
        table.put(record, 0).unwrap();
        assert_eq!(
            text(&table),
            r#"[{"id":"a","names":["\u003cn\u003e"],"created":"0001-01-01T00:00:00Z","#.to_owned()
                + r#""flags":{"x":12345678901234567890},"future":{"n":12345678901234567890}}]"#
        );
    }

    #[test]
    fn keys_are_ids_then_names_then_unique_prefixes() {
        let table = table(r#"[{"id":"abc"},{"id":"abd","names":["ab"]},{"id":"x"}]"#);
        let find = |key| table.find(key).map(|row| row.id().to_owned());
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
        table
            .put(
                LayerRecord {
                    id: "d".into(),
                    names: vec!["n".into()],
                    ..Default::default()
                },
                0,
            )
            .unwrap();
        table.remove("b");
        table
            .put(
                LayerRecord {
                    id: "b".into(),
                    ..Default::default()
                },
                0,
            )
            .unwrap();
        assert_eq!(table.find("n").unwrap().id(), "d");
        table.roll_back(mark);
        assert_eq!(text(&table), source);
        assert_eq!(table.find("n").unwrap().id(), "a");
    }

    #[test]
    fn of_two_records_with_one_name_the_later_keeps_it() {
        let mut table = Table::<LayerRecord>::default();
        let source = r#"[{"id":"a","names":["n","m"]},{"id":"b","names":["n"]}]"#;
        assert!(absorb(&mut table, source).unwrap().has_conflicts);
        assert_eq!(table.find_id("a").unwrap().record().unwrap().names, ["m"]);
        assert_eq!(table.find("n").unwrap().id(), "b");
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
            "[{}]",
            "[{\"id\":\"a\"}] ]",
            "[{\"id\":\"a\",\"id\":\"b\"}]",
            "[{\"id\":\"a\",\"names\":[1]}]",
            "[{\"id\":\"a\",\"names\":\"b\"}]",
            "[{\"id\":\"a\",\"parent\":[]}]",
            "[{\"id\":1}]",
        ] {
            assert!(absorb(&mut Table::default(), bad).is_err(), "{bad}");
        }
        assert!(absorb(&mut Table::default(), "").is_ok());
    }

    #[test]
    fn escaped_ids_and_names_are_found_by_what_they_say() {
        let mut table = table(r#"[{"id":"\u0061","names":["n\/1","m"]},{"i\u0064":"b"}]"#);
        assert_eq!(table.find_name("n/1").unwrap().id(), "a");
        assert_eq!(table.find_id("b").unwrap().names().count(), 0);
        assert!(table.remove("a").is_some());
        assert!(table.find_name("m").is_none());
        assert!(absorb(&mut Table::default(), r#"[{"id":"\u002e."}]"#).is_err());
    }

    #[test]
    fn names_are_found_without_parsing_a_record() {
        let table = table(r#"[{"id":"a","names":[ "n" , "" , "m" ],"created":"never"}]"#);
        let row = table.find_name("m").unwrap();
        assert_eq!(row.names().collect::<Vec<_>>(), ["n", "", "m"]);
        assert!(
            matches!(row.record(), Err(Error::Load { path, .. }) if path.ends_with("layers.json"))
        );
        assert!(row.record().is_err());
    }

    #[test]
    fn a_record_that_says_nothing_is_refused_when_asked_and_kept_until_then() {
        let source = r#"[{"id":"a","created":"never"},{"id":"b","names":["n"]}]"#;
        let mut table = table(source);
        assert!(table.search("never", |_| true).is_err());
        let mut record = (**table.find_id("b").unwrap().record().unwrap()).clone();
        record.names.clear();
        table.put(record, 0).unwrap();
        assert!(text(&table).starts_with(r#"[{"id":"a","created":"never"},{"id":"b","#));
    }

    #[test]
    fn a_search_finds_values_however_they_are_written() {
        let table = table(
            r#"[{"id":"a","parent":"x"},{"id":"b","parent":"\u0079"},{"id":"c","parent":"z\"z"}]"#,
        );
        for (parent, id) in [
            ("x", Some("a")),
            ("y", Some("b")),
            ("z\"z", Some("c")),
            ("w", None),
        ] {
            let found = table
                .search(parent, |layer| layer.parent == parent)
                .unwrap();
            assert_eq!(found.map(|layer| layer.id.clone()).as_deref(), id);
        }
    }

    #[test]
    fn places_of_removed_rows_are_used_again() {
        let mut table = Table::default();
        for n in 0..1000 {
            let record = LayerRecord {
                id: format!("{n}"),
                names: vec![format!("n{n}")],
                ..LayerRecord::default()
            };
            table.put(record, 0).unwrap();
            if n % 10 != 0 {
                table.remove(&format!("{n}"));
            }
            table.settle();
        }
        assert_eq!(table.len(), 100);
        assert!(table.rows.len() <= 264, "{}", table.rows.len());
        assert_eq!(table.find("n990").unwrap().id(), "990");
        assert_eq!(table.iter().next().unwrap().id(), "0");
    }
}
