//! Names, metadata and look-ups across the three kinds: layers first, then images, then containers.

use std::sync::Arc;

use super::Store;
use super::edit::Edit;
use super::error::{Error, Kind};
use super::row::Record;
use super::transaction::Scope;

/// The list without what is in it before.
pub(super) fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

/// Moves `names` to the front of an image's history of names.
pub(super) fn remember(history: &mut Vec<String>, names: &[String]) {
    for name in names {
        history.retain(|known| known != name);
        history.insert(0, name.clone());
    }
}

/// How a list of names is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set,
    Add,
    Remove,
}

impl Operation {
    fn apply(self, old: &[String], given: &[String]) -> Vec<String> {
        let names = match self {
            Self::Set => given.to_vec(),
            Self::Add => given.iter().chain(old).cloned().collect(),
            Self::Remove => old
                .iter()
                .filter(|name| !given.contains(name))
                .cloned()
                .collect(),
        };
        without_repeats(names)
    }
}

fn rename<R: Record>(
    edit: &mut Edit<'_, R>,
    key: &str,
    operation: Operation,
    given: &[String],
    note: impl FnOnce(&mut R, &[String]),
) -> Result<Option<Vec<String>>, Error> {
    let Some(found) = edit.find(key)? else {
        return Ok(None);
    };
    let mut record = (*found).clone();
    let names = operation.apply(record.names(), given);
    if let Some(own) = record.names_mut() {
        own.clone_from(&names);
    }
    note(&mut record, &names);
    edit.put(record, 0)?;
    Ok(Some(names))
}

impl Store {
    /// The full ID and kind of what `key` finds.
    ///
    /// # Errors
    /// [`Error::Unknown`] when nothing has it.
    pub fn lookup(&self, key: &str) -> Result<(Kind, String), Error> {
        if let Some(layer) = self.find_layer(key)? {
            return Ok((Kind::Layer, layer.id.clone()));
        }
        if let Some(image) = self.find_image(key)? {
            return Ok((Kind::Image, image.id.clone()));
        }
        if let Some(container) = self.find_container(key)? {
            return Ok((Kind::Container, container.id.clone()));
        }
        Err(Error::Unknown(Kind::Layer))
    }

    /// True when something has the key.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        match self.lookup(key) {
            Ok(_) => Ok(true),
            Err(Error::Unknown(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names of what `key` finds.
    ///
    /// # Errors
    /// When nothing has the key.
    pub fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        if let Some(layer) = self.find_layer(key)? {
            return Ok(layer.names.clone());
        }
        if let Some(image) = self.find_image(key)? {
            return Ok(image.names.clone());
        }
        let container = self
            .find_container(key)?
            .ok_or(Error::Unknown(Kind::Layer))?;
        Ok(container.names.clone())
    }

    /// Gives it exactly these names, taking them from others.
    ///
    /// # Errors
    /// When nothing has the key, or it can't be saved.
    pub fn set_names(&self, key: &str, names: &[String]) -> Result<Vec<String>, Error> {
        self.change_names(key, names, Operation::Set)
    }

    /// Gives it these names too, before those it has, taking them from others.
    ///
    /// # Errors
    /// When nothing has the key, or it can't be saved.
    pub fn add_names(&self, key: &str, names: &[String]) -> Result<Vec<String>, Error> {
        self.change_names(key, names, Operation::Add)
    }

    /// Takes these names from it; one that it has not is passed over.
    ///
    /// # Errors
    /// When nothing has the key, or it can't be saved.
    pub fn remove_names(&self, key: &str, names: &[String]) -> Result<Vec<String>, Error> {
        self.change_names(key, names, Operation::Remove)
    }

    fn change_names(
        &self,
        key: &str,
        names: &[String],
        operation: Operation,
    ) -> Result<Vec<String>, Error> {
        // One of an additional store gets a record here, whose names can be changed.
        if !self.0.others.is_empty()
            && self.find_layer(key)?.is_none()
            && let Some(image) = self.find_image(key)?.filter(|image| image.is_read_only)
        {
            self.pull_up(&image.record)?;
        }
        let key = key.to_owned();
        let names = names.to_vec();
        self.write(Scope::ALL, move |transaction| {
            transaction.require_durable();
            if let Some(names) = rename(transaction.layers(), &key, operation, &names, |_, _| {})? {
                return Ok(names);
            }
            let image = rename(
                transaction.images(),
                &key,
                operation,
                &names,
                |image, names| {
                    remember(&mut image.names_history, names);
                },
            )?;
            if let Some(names) = image {
                return Ok(names);
            }
            rename(transaction.containers(), &key, operation, &names, |_, _| {})?
                .ok_or(Error::Unknown(Kind::Layer))
        })
    }

    /// The caller's text of what `key` finds.
    ///
    /// # Errors
    /// [`Error::NotAnId`] when nothing has the key.
    pub fn metadata(&self, key: &str) -> Result<String, Error> {
        if let Some(layer) = self.find_layer(key)? {
            return Ok(layer.metadata.clone());
        }
        if let Some(image) = self.find_image(key)? {
            return Ok(image.metadata.clone());
        }
        Ok(self
            .find_container(key)?
            .ok_or(Error::NotAnId)?
            .metadata
            .clone())
    }

    /// Sets the caller's text.
    ///
    /// # Errors
    /// [`Error::NotAnId`] when nothing has the key; or when it can't be saved.
    pub fn set_metadata(&self, key: &str, text: &str) -> Result<(), Error> {
        let (key, text) = (key.to_owned(), text.to_owned());
        self.write(Scope::ALL, move |transaction| {
            transaction.require_durable();
            if let Some(layer) = transaction.layers().find(&key)? {
                let mut layer = Arc::unwrap_or_clone(layer);
                layer.metadata = text;
                transaction.layers().put(layer, 0)?;
            } else if let Some(image) = transaction.images().find(&key)? {
                let mut image = Arc::unwrap_or_clone(image);
                image.metadata = text;
                transaction.images().put(image, 0)?;
            } else if let Some(container) = transaction.containers().find(&key)? {
                let mut container = Arc::unwrap_or_clone(container);
                container.metadata = text;
                transaction.containers().put(container, 0)?;
            } else {
                return Err(Error::NotAnId);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn new_names_come_first_and_none_twice() {
        let old = strings(&["a", "b"]);
        let given = strings(&["c", "a", "c"]);
        assert_eq!(
            Operation::Add.apply(&old, &given),
            strings(&["c", "a", "b"])
        );
        assert_eq!(Operation::Set.apply(&old, &given), strings(&["c", "a"]));
        assert_eq!(Operation::Remove.apply(&old, &given), strings(&["b"]));
    }

    #[test]
    fn the_latest_name_is_first_in_the_history() {
        let mut history = strings(&["a", "b"]);
        remember(&mut history, &strings(&["b", "c"]));
        assert_eq!(history, strings(&["c", "b", "a"]));
    }
}
