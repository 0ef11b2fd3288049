//! What the plugin has acknowledged, kept on a disk that no cut harms: each change is synced before the next step.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::Kind;
use super::place;
use super::power;
use super::power_loss::mark::Marks;
use super::power_loss::objects::Object;

/// A claim's volume whose creation was acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub name: String,
    pub volume: String,
    pub context: HashMap<String, String>,
    /// What its pod has written and synced.
    pub note: Option<String>,
    /// What it is about to put in that place: after a loss of power it may have come there.
    pub writing: Option<String>,
    /// Its deletion was asked for, and may or may not have happened.
    pub is_going: bool,
}

/// An inline volume that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inline {
    pub name: String,
    pub image: Option<String>,
}

/// A pull by the command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pull {
    pub number: u32,
    /// The image that was acknowledged.
    pub image: Option<String>,
}

/// What a disk's store must and may hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub claims: Vec<Claim>,
    /// Names of claims that were asked for.
    pub wanted: Vec<String>,
    pub inline: Vec<Inline>,
    /// Inline volumes that are gone. Nothing of that is synced: a cut may bring them back, and what the kubelet knew of
    /// their end is then forgotten too, so that it asks again.
    #[serde(default)]
    pub ended: Vec<Inline>,
    pub pulls: Vec<Pull>,
    /// What commands have made in a store of their own.
    #[serde(default)]
    pub objects: Vec<Object>,
    #[serde(skip)]
    keeper: Keeper,
}

/// Who keeps a ledger.
#[derive(Clone, Debug, Default)]
enum Keeper {
    #[default]
    Nobody,
    File(PathBuf),
    Log(Marks),
}

impl Ledger {
    /// The ledger of a disk, as it was saved last.
    pub fn open(kind: Kind) -> Self {
        let file = place::at("/out").join(format!("ledger-{}.json", kind.name()));
        let mut ledger: Self = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).expect("the ledger is whole"),
            Err(_) => Self::default(),
        };
        ledger.keeper = Keeper::File(file);
        ledger
    }

    /// An empty one, whose changes are marks in the log of its disk.
    pub fn in_log(marks: Marks) -> Self {
        Self {
            keeper: Keeper::Log(marks),
            ..Self::default()
        }
    }

    /// Changes it; durable when this returns.
    pub fn note<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let result = change(self);
        let bytes = serde_json::to_vec(self).expect("a ledger is JSON");
        match &self.keeper {
            Keeper::Nobody => {}
            Keeper::Log(marks) => marks.write(&bytes),
            Keeper::File(file) => replace(file, &bytes),
        }
        result
    }

    /// The claim of that name.
    pub fn claim(&mut self, name: &str) -> &mut Claim {
        self.claims
            .iter_mut()
            .find(|claim| claim.name == name)
            .unwrap_or_else(|| panic!("no claim {name} was acknowledged"))
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    File::create(&new)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| power::sync_folder(path.parent().expect("a file is in a folder")))
        .expect("the ledger can be saved");
}
