//! `copy`: files and directories into layers, out of them, and from one to another.

use std::collections::HashSet;
use std::num::IntErrorKind;
use std::path::{Path, PathBuf};

use super::definition::{Definition, Flag, MANY, Run};
use super::failure::{Failure, Outcome, chain};
use super::grammar::Given;
use super::output::{self, Output};
use crate::archive::changes::Tree;
use crate::archive::copy::{Owner, copy};
use crate::archive::id_shift::IdMaps;
use crate::store::driver::MountOptions;
use crate::store::{Error, Kind, Store};
use crate::sys::Dir;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::peer(
    "copy",
    "Copy files and directories into a layer, out of one, or from one to another",
    Run::InStore(run),
)
.operands("[layerNameOrID:]/path [...] [layerNameOrID:]/path", 2, MANY)
.flags(&[
    &[Flag::value(
        "chown",
        Some('o'),
        "Owner of the copies, as UID[:GID]",
    )],
    // The peer takes it, and prints nothing all the same.
    output::JSON,
])];

/// One operand: a path in a layer, or on this machine.
struct Place {
    /// What it is called in messages.
    text: String,
    layer: Option<String>,
    path: PathBuf,
}

impl Place {
    fn parse(text: &str) -> Result<Self, Failure> {
        let is_here = text.starts_with(['/', '.']);
        let (layer, path) = match text.split_once(':').filter(|_| !is_here) {
            Some((layer, path)) => (Some(layer.to_owned()), PathBuf::from(path)),
            None => {
                let path = std::path::absolute(text)
                    .map_err(|error| Failure::new(format!("find {text}")).caused_by(&error))?;
                (None, path)
            }
        };
        Ok(Self {
            text: text.to_owned(),
            layer,
            path,
        })
    }
}

/// Layers that are mounted for the copying, and unmounted afterwards whatever happens.
struct Mounts<'a> {
    store: &'a Store,
    layers: Vec<String>,
}

impl Mounts<'_> {
    /// The root in which the path of `place` is meant, and where its container has the IDs.
    fn root(&mut self, place: &Place, read_only: bool) -> Result<(Dir, IdMaps), Failure> {
        let Some(layer) = &place.layer else {
            return Ok((Dir::open("/")?, IdMaps::default()));
        };
        let options = MountOptions {
            read_only,
            ..MountOptions::default()
        };
        let found = self.store.mount(layer, &options);
        let path = found.map_err(|error| {
            Failure::new(format!("error finding layer {layer:?}")).caused_by(&error)
        })?;
        self.layers.push(layer.clone());
        Ok((Dir::open(path)?, self.store.shown_maps(layer)?))
    }

    fn end(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for layer in std::mem::take(&mut self.layers) {
            let ended = self.store.unmount(&layer, false).map(drop);
            result = result.and(ended);
        }
        result
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "a layer stays mounted");
        }
    }
}

/// `copy`.
fn run(store: &Store, given: &Given, _: &mut Output) -> Outcome {
    let owner = given.filled("chown").map(parse_owner).transpose()?;
    let places = given.operands.iter().map(|text| Place::parse(text));
    let mut sources = places.collect::<Result<Vec<_>, _>>()?;
    let Some(target) = sources.pop() else {
        return Err(Failure::new("copy: more arguments required."));
    };
    if let Some(layer) = &target.layer {
        check_target(store, layer)?;
    }
    let mut mounts = Mounts {
        store,
        layers: Vec::new(),
    };
    // First: a second mount of a layer is what the first one was.
    let (dir, id_maps) = mounts.root(&target, false)?;
    let to = Tree { dir: &dir, id_maps };
    for source in &sources {
        let (dir, id_maps) = mounts.root(source, source.layer != target.layer)?;
        copy(
            &Tree { dir: &dir, id_maps },
            relative(&source.path),
            &to,
            relative(&target.path),
            owner,
        )
        .map_err(|error| {
            Failure::new(format!(
                "error copying {:?} to {:?}: {}",
                source.text,
                target.text,
                chain(&error)
            ))
        })?;
    }
    mounts.end()?;
    Ok(0)
}

/// What an image shows must stay what came in.
fn check_target(store: &Store, key: &str) -> Result<(), Failure> {
    let unknown = || {
        Failure::new(format!("error finding layer {key:?}")).caused_by(&Error::Unknown(Kind::Layer))
    };
    let id = match store.find_container(key)? {
        Some(container) => container.layer.clone(),
        None => store.find_layer(key)?.ok_or_else(unknown)?.id.clone(),
    };
    let layers = store.layers()?;
    let mut seen = HashSet::new();
    for image in store.images()?.iter() {
        for top in image.top_layers() {
            let mut next = top.to_owned();
            while !next.is_empty() && !seen.contains(&next) {
                if next == id {
                    return Err(Error::LayerUsedByImage(image.id.clone()).into());
                }
                let parent = layers.find_id(&next).map(|layer| layer.parent.clone());
                seen.insert(next);
                next = parent.unwrap_or_default();
            }
        }
    }
    Ok(())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// `UID[:GID]`; the group is by default the user's number.
fn parse_owner(text: &str) -> Result<Owner, Failure> {
    let number = |what: &str, text: &str| {
        text.parse::<u32>().map_err(|error| {
            let reason = match error.kind() {
                IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Failure::new(format!(
                "bad {what}: strconv.ParseUint: parsing {text:?}: {reason}"
            ))
        })
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Ok(Owner {
        uid: number("UID", uid)?,
        gid: number("GID", gid)?,
    })
}
