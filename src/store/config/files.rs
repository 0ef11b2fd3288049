//! The files that say how stores work here: which there are, and how they are laid over each other.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{ConfigError, Environment};
use crate::sys::{self, Dir};

/// Reads a file by its absolute path; `None` when there is none.
fn find(path: &Path) -> Result<Option<Vec<u8>>, sys::Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    match Dir::open(parent) {
        Ok(dir) => match dir.find_link(name)? {
            // Distributions link their configuration; the link itself is trusted as the file is.
            Some(target) => find(&parent.join(target)),
            None => dir.find(name),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, sys::Error> {
    find(path)?.ok_or_else(|| sys::Error::new("open", path, rustix::io::Errno::NOENT))
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Table, ConfigError> {
    let text = String::from_utf8_lossy(bytes);
    toml::from_str(&text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Lays `over` on `base`: tables key by key; arrays are replaced, unless they ask to be appended.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (Some(Value::Array(base)), Value::Array(over)) => {
                let (marks, values): (Vec<_>, Vec<_>) = over
                    .into_iter()
                    .partition(|value| value.as_table().is_some());
                let appends = marks
                    .iter()
                    .any(|mark| mark.get("append").and_then(Value::as_bool).unwrap_or(false));
                if !appends {
                    base.clear();
                }
                base.extend(values);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The files that say how stores work here, in the order in which they are laid over each other.
pub(super) fn files(environment: &Environment) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    if let Some(file) = environment
        .config_file
        .as_ref()
        .filter(|file| !file.as_os_str().is_empty())
    {
        files.push(file.clone());
    } else {
        let user = environment
            .config_home()
            .map(|home| home.join("containers/storage.conf"));
        let system = [
            "/etc/containers/storage.conf",
            "/usr/share/containers/storage.conf",
        ];
        for path in user.into_iter().chain(system.map(PathBuf::from)) {
            if find(&path)?.is_some() {
                files.push(path);
                break;
            }
        }
        files.extend(drop_ins(environment)?);
    }
    if let Some(file) = environment
        .override_file
        .as_ref()
        .filter(|file| !file.as_os_str().is_empty())
    {
        files.push(file.clone());
    }
    Ok(files)
}

/// Drop-in files: equal names override earlier folders; the rest in the order of their names.
fn drop_ins(environment: &Environment) -> Result<Vec<PathBuf>, ConfigError> {
    let mut folders = Vec::new();
    for base in ["/usr/share/containers", "/etc/containers"] {
        folders.push(format!("{base}/storage.conf.d").into());
        if environment.is_rootless() {
            folders.push(PathBuf::from(format!("{base}/storage.rootless.conf.d")));
            folders.push(format!("{base}/storage.rootless.conf.d/{}", environment.user).into());
        } else {
            folders.push(format!("{base}/storage.rootful.conf.d").into());
        }
    }
    if let Some(home) = environment.config_home() {
        folders.push(home.join("containers/storage.conf.d"));
    }
    let mut found = std::collections::BTreeMap::new();
    for folder in folders {
        let dir = match Dir::open(&folder) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in dir.list()? {
            let path = folder.join(&entry.name);
            if path
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                found.insert(entry.name, path);
            }
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_replaced_unless_they_ask_to_be_appended() {
        let mut base = parse(Path::new("x"), b"a = [1]\nb = [1]").unwrap();
        merge(
            &mut base,
            parse(Path::new("x"), b"a = [2]\nb = [2, {append=true}]").unwrap(),
        );
        assert_eq!(base["a"].as_array().unwrap().len(), 1);
        assert_eq!(base["b"].as_array().unwrap().len(), 2);
    }
}
