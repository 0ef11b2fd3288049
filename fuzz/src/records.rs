//! The JSON files of layers, images and containers.

use std::path::Path;

use strata::store::table::Table;
use strata::store::{ContainerRecord, ImageRecord, LayerRecord, Record};

use super::plant;

/// The first byte says which kind.
pub fn run(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => check::<LayerRecord>(text),
        1 => check::<ImageRecord>(text),
        _ => check::<ContainerRecord>(text),
    }
}

fn absorb<R: Record>(text: &[u8]) -> Option<Table<R>> {
    let mut table = Table::default();
    let absorbed = table.absorb(0, Path::new("records.json"), text.to_vec());
    absorbed.ok().map(|_| table)
}

fn check<R: Record>(text: &[u8]) {
    let Some(mut table) = absorb::<R>(text) else {
        return;
    };
    let list = |table: &Table<R>| -> Vec<(String, Vec<String>)> {
        let rows = table.iter();
        rows.map(|row| {
            (
                row.id().to_owned(),
                row.names().map(str::to_owned).collect(),
            )
        })
        .collect()
    };
    let before = list(&table);
    assert_eq!(before.len(), table.len());
    let again = absorb::<R>(&table.pieces(0).concat()).expect("what we write can be read");
    assert_eq!(list(&again), before, "unchanged rows are what they were");
    let escaped = table.iter().filter(|row| row.has_escapes()).count();
    let flagged = table.iter().filter(|row| row.has_flags()).count();
    plant::bug(escaped >= 1 && flagged >= 1 && before.len() >= 2);
    for (id, names) in &before {
        let row = table.find_id(id).expect("an ID that was listed");
        for name in names {
            assert!(
                table.find_name(name).is_some(),
                "a name leads nowhere: {name:?}"
            );
        }
        let Ok(record) = row.record().cloned() else {
            continue;
        };
        assert_eq!(record.id(), id);
        let before = table.len();
        if table.put((*record).clone(), 0).is_ok() {
            assert_eq!(table.len(), before, "a record takes its own place");
        }
    }
    let again = absorb::<R>(&table.pieces(0).concat()).expect("what we write can be read");
    let ids = |list: Vec<(String, Vec<String>)>| -> Vec<String> {
        list.into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(
        ids(list(&again)),
        ids(before),
        "written records are the same"
    );
}
