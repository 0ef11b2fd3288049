//! The keys that there are, and those that look like a slip of the pen.

use std::path::Path;

use toml::Table;

use super::ConfigError;

/// Keys of `[storage]`.
const KEYS: [&str; 8] = [
    "driver",
    "driver_priority",
    "runroot",
    "graphroot",
    "imagestore",
    "rootless_storage_path",
    "transient_store",
    "options",
];

/// Keys of `[storage.options]` beside [`GENERAL`] and the names of [`DRIVERS`]: what we read, and what peers do.
const OPTION_KEYS: [&str; 11] = [
    "additionalimagestores",
    "additionallayerstores",
    "pull_options",
    "remap-uids",
    "remap-gids",
    "remap-user",
    "remap-group",
    "root-auto-userns-user",
    "auto-userns-min-size",
    "auto-userns-max-size",
    "disable-volatile",
];

/// Keys of `[storage.options]` that older files use for what is now in the driver's table.
pub(super) const GENERAL: [&str; 6] = [
    "size",
    "mount_program",
    "mountopt",
    "ignore_chown_errors",
    "skip_mount_home",
    "force_mask",
];

/// The tables of drivers, in the order in which peers pass them on, and their keys.
pub(super) const DRIVERS: [(&str, &[&str]); 4] = [
    ("btrfs", &["min_space", "size"]),
    (
        "overlay",
        &[
            "ignore_chown_errors",
            "mountopt",
            "mount_program",
            "size",
            "inodes",
            "skip_mount_home",
            "use_composefs",
            "force_mask",
            "sync",
            // Ours alone.
            "max_lowers",
        ],
    ),
    ("vfs", &["ignore_chown_errors", "sync"]),
    ("zfs", &["fsname", "mountopt", "size"]),
];

/// Refuses keys that look like a slip of the pen, which would silently select another store, or leave one out;
/// others that are not known are logged.
pub(super) fn check_keys(table: &Table, path: &Path) -> Result<(), ConfigError> {
    let inner = |table: Option<&Table>, key: &str| table?.get(key)?.as_table().cloned();
    let storage = inner(Some(table), "storage");
    let options = inner(storage.as_ref(), "options");
    let top = table.keys().filter(|key| *key != "storage");
    // A key of the table above its heading is a slip, too.
    if let Some(key) = table.keys().find(|key| KEYS.contains(&key.as_str())) {
        return Err(ConfigError::Misspelt {
            path: path.to_owned(),
            key: key.clone(),
            meant: "[storage]",
        });
    }
    check_known(top, &["storage"], path)?;
    check_known(storage.iter().flat_map(Table::keys), &KEYS, path)?;
    let drivers = DRIVERS.map(|(driver, _)| driver);
    let known = [&OPTION_KEYS[..], &GENERAL, &drivers].concat();
    check_known(options.iter().flat_map(Table::keys), &known, path)?;
    for (driver, known) in DRIVERS {
        let table = inner(options.as_ref(), driver);
        check_known(table.iter().flat_map(Table::keys), known, path)?;
    }
    Ok(())
}

fn check_known<'a>(
    keys: impl Iterator<Item = &'a String>,
    known: &[&'static str],
    path: &Path,
) -> Result<(), ConfigError> {
    for key in keys.filter(|key| !known.contains(&key.as_str())) {
        // Of a short word two letters are too much of it.
        let near =
            |known: &&&str| distance(&key.to_ascii_lowercase(), known) <= 2.min(known.len() / 3);
        if let Some(meant) = known.iter().find(near) {
            return Err(ConfigError::Misspelt {
                path: path.to_owned(),
                key: key.clone(),
                meant,
            });
        }
        tracing::warn!(file = %path.display(), key, "this key of storage.conf is not known");
    }
    Ok(())
}

/// How many letters must be changed, added or taken away to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut costs: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, target) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *target);
            diagonal = costs[column + 1];
            costs[column + 1] = change.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[other.len()]
}
